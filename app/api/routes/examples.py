"""The support set of a session: its classes and their examples."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Response, UploadFile, status

from app.access.api_keys import Owner
from app.api.dependencies import (
    EngineDep,
    ExampleIdPath,
    ImageReader,
    ImageReaderDep,
    Images,
    LabelPath,
    Labels,
    StoreDep,
    SupportsDep,
    require_multipart,
    require_same_weights,
)
from app.api.errors import InvalidLabel, InvalidRequest, NoExampleAdded
from app.api.responses import box_answer
from app.inference.engine import Engine, SupportFace
from app.inference.errors import ReadingFailed
from app.inference.support_cache import SupportCache
from app.sessions.store import SessionStore
from csrn_client.fields import ExampleId
from csrn_client.schemas import Added, AddedExample, Class, RejectedImage, Session
from model.support_set import Example

router = APIRouter(prefix="/v1/sessions", tags=["support"])


class _EncodedExamples:
    """The examples that a request adds, and what it answers about each image."""

    def __init__(self) -> None:
        self.examples: list[Example] = []
        self.added: list[AddedExample] = []
        self.rejected: list[RejectedImage] = []

    def answer(self, session: Session) -> Added:
        return Added(session=session, added=self.added, rejected=self.rejected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Teaching:
    """What a request that adds examples to a session works with."""

    session_id: str
    owner: str
    store: SessionStore
    engine: Engine
    supports: SupportCache
    reader: ImageReader

    async def encode(
        self, images: Sequence[UploadFile], labels: Sequence[str], ids: Sequence[str]
    ) -> _EncodedExamples:
        """The images as examples. Raises: NoExampleAdded; SessionNotFound; QueueFull."""
        require_same_weights(await self.store.get(self.owner, self.session_id), self.engine)
        uploads = await self.reader.read(images)
        encoded = _EncodedExamples()
        outcomes = await self.engine.encode_support(uploads, lane=self.session_id)
        for index, (outcome, label, example_id) in enumerate(zip(outcomes, labels, ids, strict=True)):
            if isinstance(outcome, SupportFace):
                encoded.examples.append(
                    Example(example_id=example_id, label=label, features=outcome.features)
                )
                encoded.added.append(
                    AddedExample(
                        index=index, example_id=example_id, label=label, box=box_answer(outcome.box_px)
                    )
                )
            else:
                encoded.rejected.append(
                    RejectedImage(
                        index=index,
                        filename=uploads[index].filename,
                        code=outcome.code,
                        detail=str(outcome),
                    )
                )
        if not encoded.examples:
            raise next(
                (error for error in outcomes if isinstance(error, ReadingFailed)), None
            ) or NoExampleAdded(encoded.rejected)
        return encoded

    async def add(self, encoded: _EncodedExamples) -> Added:
        return encoded.answer(await self.store.add_examples(self.owner, self.session_id, encoded.examples))

    async def replace(self, label: str, encoded: _EncodedExamples) -> Added:
        replaced = await self.store.replace_class(self.owner, self.session_id, label, encoded.examples)
        self.supports.forget(self.session_id)
        return encoded.answer(replaced)


def _teaching(
    session_id: str,
    owner: Owner,
    store: StoreDep,
    engine: EngineDep,
    supports: SupportsDep,
    reader: ImageReaderDep,
) -> _Teaching:
    return _Teaching(
        session_id=session_id, owner=owner, store=store, engine=engine, supports=supports, reader=reader
    )


TeachingDep = Annotated[_Teaching, Depends(_teaching)]


@router.post(
    "/{session_id}/support",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(require_multipart)],
)
async def add_support(
    teaching: TeachingDep,
    images: Images,
    labels: Labels,
) -> Added:
    """Add examples of many classes at once; classes that do not exist yet are created."""
    if len(labels) != len(images):
        raise InvalidLabel(f"{len(images)} images need as many labels, not {len(labels)}")
    encoded = await teaching.encode(images, labels, [_new_id() for _ in images])
    return await teaching.add(encoded)


@router.post(
    "/{session_id}/classes/{label}/examples",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(require_multipart)],
)
async def add_examples(
    teaching: TeachingDep,
    label: LabelPath,
    images: Images,
    example_ids: Annotated[list[ExampleId] | None, Form(description="One for each image")] = None,
) -> Added:
    """Add examples to one class, which is created if it does not exist."""
    ids = example_ids or [_new_id() for _ in images]
    if len(ids) != len(images):
        raise InvalidRequest(f"{len(images)} images need as many example_ids, not {len(ids)}")
    encoded = await teaching.encode(images, [label] * len(ids), ids)
    return await teaching.add(encoded)


@router.put("/{session_id}/classes/{label}", dependencies=[Depends(require_multipart)])
async def replace_class(
    teaching: TeachingDep,
    label: LabelPath,
    images: Images,
) -> Added:
    """Put new examples in place of all that the class had, in one step."""
    ids = [_new_id() for _ in images]
    encoded = await teaching.encode(images, [label] * len(ids), ids)
    return await teaching.replace(label, encoded)


@router.get("/{session_id}/classes/{label}")
async def get_class(session_id: str, label: LabelPath, owner: Owner, store: StoreDep) -> Class:
    """The examples of a class, oldest first."""
    ids = await store.example_ids(owner, session_id, label)
    return Class(label=label, examples=len(ids), example_ids=list(ids))


@router.delete(
    "/{session_id}/classes/{label}/examples/{example_id}",
    status_code=status.HTTP_204_NO_CONTENT,
)
async def delete_example(
    session_id: str,
    label: LabelPath,
    example_id: ExampleIdPath,
    owner: Owner,
    store: StoreDep,
    supports: SupportsDep,
) -> Response:
    """Delete one example; with its last example the class is gone."""
    await store.delete_example(owner, session_id, label, example_id)
    supports.forget(session_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.delete("/{session_id}/classes/{label}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_class(
    session_id: str, label: LabelPath, owner: Owner, store: StoreDep, supports: SupportsDep
) -> Response:
    """Delete a class with its examples."""
    await store.delete_class(owner, session_id, label)
    supports.forget(session_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


def _new_id() -> str:
    return secrets.token_hex(8)
