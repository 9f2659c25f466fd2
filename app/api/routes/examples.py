"""The support set of a session: its classes and their examples."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, status

from app.api.bodies import body_reader
from app.api.body_descriptions import image_body
from app.api.body_models import ExamplesBody, ReplaceBody, SupportBody
from app.api.dependencies import (
    ExampleIdPath,
    LabelPath,
    Owner,
    SessionId,
    require_json,
    require_same_weights,
)
from app.api.errors import NoExampleAdded
from app.api.problems import public_detail
from app.api.responses import rounded_box
from app.api.routes.sessions import MAX_JSON_BYTES
from app.api.state import Service, ServiceState
from app.inference.engine import SupportFace, Upload
from app.inference.errors import ReadingFailed
from app.inference.fairness import Lane
from app.sessions.errors import DuplicateImage
from csrn_client.schemas import Added, AddedExample, Box, Class, ClassChange, RejectedImage, Session
from model.errors import CsrnError
from model.support_set import Example

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["support"])


async def _add(
    service: ServiceState,
    owner: str,
    session_id: str,
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
    if example_ids:
        await service.store.check_ids(owner, session_id, example_ids)
    outcomes = await service.engine.encode_support(uploads, lane=Lane(owner=owner, session_id=session_id))
    digests = await asyncio.to_thread(_digests, uploads)
    ids = example_ids or [secrets.token_hex(8) for _ in uploads]
    examples = [
        Example(example_id=example_id, label=label, features=outcome.features, image_sha256=digest)
        for example_id, label, outcome, digest in zip(ids, labels, outcomes, digests, strict=True)
        if isinstance(outcome, SupportFace)
    ]
    session: Session | None = None
    duplicates: Sequence[str] = ids
    if examples:
        with contextlib.suppress(DuplicateImage):  # raised if all are duplicates
            session, duplicates = await (
                service.store.add_examples(owner, session_id, examples)
                if replaced is None
                else service.store.replace_class(owner, session_id, replaced, examples)
            )
    if replaced is not None:
        service.supports.forget(session_id)
    added, rejected = [], []
    for index, (example_id, outcome) in enumerate(zip(ids, outcomes, strict=True)):
        if isinstance(outcome, SupportFace) and example_id in duplicates:
            outcome = DuplicateImage()
        if isinstance(outcome, CsrnError):
            filename, detail = uploads[index].filename, public_detail(outcome)
            rejected.append(RejectedImage(index=index, filename=filename, code=outcome.code, detail=detail))
        else:
            box = Box(**rounded_box(outcome.face.box_px))
            added.append(AddedExample(index=index, example_id=example_id, label=labels[index], box=box))
    if session is None:
        failures = [error for error in outcomes if isinstance(error, ReadingFailed)]
        raise failures[0] if failures else NoExampleAdded(rejected)
    return Added(session=session, added=added, rejected=rejected)


def _digests(uploads: Sequence[Upload]) -> list[bytes]:
    """The SHA-256 of the bytes of each image."""
    return [hashlib.sha256(upload.data).digest() for upload in uploads]


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
    return await service.store.get_class(owner, session_id, label)


@router.patch("/classes/{label}", dependencies=[Depends(require_json)], max_body_size=MAX_JSON_BYTES)
async def update_class(
    session_id: SessionId, label: LabelPath, owner: Owner, service: Service, body: ClassChange
) -> Class:
    """Rename a class, or leave it out of the scoring, the threshold and the quality without deleting it."""
    changed = await service.store.update_class(owner, session_id, label, body)
    service.supports.forget(session_id)
    return changed


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
