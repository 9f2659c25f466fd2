"""The support set of a session: its classes and their examples."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, status

from app.api.bodies import ExamplesBody, ReplaceBody, SupportBody, body_reader
from app.api.body_descriptions import image_body
from app.api.dependencies import ExampleIdPath, LabelPath, Owner, SessionId, require_same_weights
from app.api.errors import NoExampleAdded
from app.api.problems import public_detail
from app.api.responses import rounded_box
from app.api.state import Service, ServiceState
from app.inference.engine import SupportFace, Upload
from app.inference.errors import ReadingFailed
from app.inference.fairness import Lane
from csrn_client.schemas import Added, AddedExample, Box, Class, RejectedImage
from model.support_set import Example

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["support"])


async def _add(
    service: ServiceState,
    owner: str,
    session_id: SessionId,
    uploads: Sequence[Upload],
    labels: Sequence[str],
    *,
    example_ids: Sequence[str] | None = None,
    replaced: str | None = None,
) -> Added:
    """Encode images and store them as examples, instead of the class `replaced` if one is named.

    Raises: NoExampleAdded; ReadingFailed; SessionError; QueueFull.
    """
    require_same_weights(service, await service.store.version(owner, session_id))
    outcomes = await service.engine.encode_support(uploads, lane=Lane(owner=owner, session_id=session_id))
    examples, added, rejected = [], [], []
    for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True)):
        if isinstance(outcome, SupportFace):
            example_id = example_ids[index] if example_ids else secrets.token_hex(8)
            label, box = labels[index], Box(**rounded_box(outcome.face.box_px))
            examples.append(Example(example_id=example_id, label=label, features=outcome.features))
            added.append(AddedExample(index=index, example_id=example_id, label=label, box=box))
        else:
            code, detail = outcome.code, public_detail(outcome)
            rejected.append(RejectedImage(index=index, filename=upload.filename, code=code, detail=detail))
    if not examples:
        failures = [error for error in outcomes if isinstance(error, ReadingFailed)]
        raise failures[0] if failures else NoExampleAdded(rejected)
    if replaced is None:
        session = await service.store.add_examples(owner, session_id, examples)
    else:
        session = await service.store.replace_class(owner, session_id, replaced, examples)
        service.supports.forget(session_id)
    return Added(session=session, added=added, rejected=rejected)


@router.post("/support", status_code=status.HTTP_201_CREATED, openapi_extra=image_body(SupportBody))
async def add_support(
    session_id: SessionId,
    owner: Owner,
    service: Service,
    body: Annotated[SupportBody, Depends(body_reader(SupportBody))],
) -> Added:
    """Add examples of several classes at once. A class that does not exist is created."""
    return await _add(service, owner, session_id, body.images, body.labels)


@router.post(
    "/classes/{label}/examples",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=image_body(ExamplesBody),
)
async def add_examples(
    session_id: SessionId,
    label: LabelPath,
    owner: Owner,
    service: Service,
    body: Annotated[ExamplesBody, Depends(body_reader(ExamplesBody))],
) -> Added:
    """Add examples to one class, which is created if it does not exist."""
    labels = [label] * len(body.images)
    return await _add(service, owner, session_id, body.images, labels, example_ids=body.example_ids)


@router.put("/classes/{label}", openapi_extra=image_body(ReplaceBody))
async def replace_class(
    session_id: SessionId,
    label: LabelPath,
    owner: Owner,
    service: Service,
    body: Annotated[ReplaceBody, Depends(body_reader(ReplaceBody))],
) -> Added:
    """Replace all examples of a class in one step."""
    labels = [label] * len(body.images)
    return await _add(service, owner, session_id, body.images, labels, replaced=label)


@router.get("/classes/{label}")
async def get_class(session_id: SessionId, label: LabelPath, owner: Owner, service: Service) -> Class:
    """The ids of a class's examples, oldest first."""
    ids = await service.store.example_ids(owner, session_id, label)
    return Class(label=label, examples=len(ids), example_ids=list(ids))


@router.delete("/classes/{label}/examples/{example_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_example(
    session_id: SessionId, label: LabelPath, example_id: ExampleIdPath, owner: Owner, service: Service
) -> None:
    """Delete one example. A class without examples no longer exists."""
    await service.store.delete_example(owner, session_id, label, example_id)
    service.supports.forget(session_id)


@router.delete("/classes/{label}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_class(session_id: SessionId, label: LabelPath, owner: Owner, service: Service) -> None:
    """Delete a class with its examples."""
    await service.store.delete_class(owner, session_id, label)
    service.supports.forget(session_id)
