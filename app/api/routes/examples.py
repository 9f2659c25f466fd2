"""The support set of a session: its classes and their examples."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Form, UploadFile, status

from app.api.dependencies import (
    Images,
    LabelPath,
    Labels,
    Owner,
    read_images,
    require_multipart,
    require_same_weights,
)
from app.api.errors import InvalidLabel, InvalidRequest, NoExampleAdded
from app.api.problems import public_detail
from app.api.responses import rounded_box
from app.api.state import Service, ServiceState
from app.inference.engine import SupportFace
from app.inference.errors import ReadingFailed
from app.inference.fairness import Lane
from csrn_client.field_rules import ExampleId
from csrn_client.schemas import Added, AddedExample, Box, Class, RejectedImage
from model.support_set import Example

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["support"])
multipart_only = [Depends(require_multipart)]


async def _add(
    service: ServiceState,
    owner: str,
    session_id: str,
    images: Sequence[UploadFile],
    labels: Sequence[str],
    *,
    example_ids: Sequence[str] | None = None,
    replaced: str | None = None,
) -> Added:
    """Encode images and store them as examples, instead of the class `replaced` if one is named.

    Raises: NoExampleAdded; ReadingFailed; SessionError; BodyTooLarge; RateLimited; QueueFull.
    """
    require_same_weights(service, await service.store.version(owner, session_id))
    uploads = await read_images(service, owner, images)
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


@router.post("/support", status_code=status.HTTP_201_CREATED, dependencies=multipart_only)
async def add_support(
    session_id: str, owner: Owner, service: Service, images: Images, labels: Labels
) -> Added:
    """Add examples of several classes at once. A class that does not exist is created."""
    if len(labels) != len(images):
        raise InvalidLabel(f"{len(images)} images need as many labels, not {len(labels)}")
    return await _add(service, owner, session_id, images, labels)


@router.post("/classes/{label}/examples", status_code=status.HTTP_201_CREATED, dependencies=multipart_only)
async def add_examples(
    session_id: str,
    label: LabelPath,
    owner: Owner,
    service: Service,
    images: Images,
    example_ids: Annotated[list[ExampleId] | None, Form(description="One id for each image")] = None,
) -> Added:
    """Add examples to one class, which is created if it does not exist."""
    if example_ids and len(example_ids) != len(images):
        raise InvalidRequest(f"{len(images)} images need as many example_ids, not {len(example_ids)}")
    labels = [label] * len(images)
    return await _add(service, owner, session_id, images, labels, example_ids=example_ids)


@router.put("/classes/{label}", dependencies=multipart_only)
async def replace_class(
    session_id: str, label: LabelPath, owner: Owner, service: Service, images: Images
) -> Added:
    """Replace all examples of a class in one step."""
    return await _add(service, owner, session_id, images, [label] * len(images), replaced=label)


@router.get("/classes/{label}")
async def get_class(session_id: str, label: LabelPath, owner: Owner, service: Service) -> Class:
    """The ids of a class's examples, oldest first."""
    ids = await service.store.example_ids(owner, session_id, label)
    return Class(label=label, examples=len(ids), example_ids=list(ids))


@router.delete("/classes/{label}/examples/{example_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_example(
    session_id: str, label: LabelPath, example_id: str, owner: Owner, service: Service
) -> None:
    """Delete one example. A class without examples no longer exists."""
    await service.store.delete_example(owner, session_id, label, example_id)
    service.supports.forget(session_id)


@router.delete("/classes/{label}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_class(session_id: str, label: LabelPath, owner: Owner, service: Service) -> None:
    """Delete a class with its examples."""
    await service.store.delete_class(owner, session_id, label)
    service.supports.forget(session_id)
