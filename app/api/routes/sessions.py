"""Sessions as wholes: create, list, look, delete, judge, carry elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from app.access.api_keys import Owner
from app.access.errors import TooManyRequests
from app.api.dependencies import EngineDep, StoreDep, SupportsDep, require_json, require_same_weights
from app.api.responses import quality_answer
from app.sessions.archive import export_session, read_archive
from app.sessions.errors import ArchiveInvalid
from csrn_client.schemas import NewSession, Quality, Session, SessionPage

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
EXPORTS_AT_ONCE = 4
"""Each holds a whole session in memory until its client has taken it"""
PART_BYTES = 64 * 1024
ARCHIVE_MEDIA_TYPE = "application/octet-stream"
ARCHIVE_SCHEMA = {"schema": {"type": "string", "format": "binary"}}


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=[Depends(require_json)])
async def create_session(
    owner: Owner, store: StoreDep, engine: EngineDep, body: NewSession | None = None
) -> Session:
    """Create an empty session for the weights that are served."""
    return await store.create(owner, body or NewSession(), weights_sha256=engine.checkpoint.sha256)


@router.get("")
async def list_sessions(
    owner: Owner,
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(pattern="^[0-9]{1,18}$")] = None,
) -> SessionPage:
    """The key's sessions, oldest first; pass next_cursor on for the next page."""
    page, next_cursor = await store.list_page(owner, limit=limit, cursor=cursor)
    return SessionPage(sessions=page, next_cursor=next_cursor)


@router.get("/{session_id}")
async def get_session(session_id: str, owner: Owner, store: StoreDep) -> Session:
    """A session and the number of examples of each class."""
    return await store.get(owner, session_id)


@router.delete("/{session_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_session(session_id: str, owner: Owner, store: StoreDep, supports: SupportsDep) -> Response:
    """Delete a session with everything that was learnt in it."""
    await store.delete(owner, session_id)
    supports.forget(session_id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/{session_id}/quality")
async def get_quality(session_id: str, owner: Owner, store: StoreDep, engine: EngineDep) -> Quality:
    """Leave-one-out confusion of the support set, with a verdict on each class."""
    session, examples = await store.load_examples(owner, session_id)
    require_same_weights(session, engine)
    if not examples:
        return quality_answer(session.revision, {}, [], unknown_below=None)

    support = await engine.build_support_set(examples)
    left_out = await engine.leave_one_out(support, examples)
    classes = {known.label: known.examples for known in session.classes}
    return quality_answer(session.revision, classes, left_out, unknown_below=support.unknown_below)


async def _export_place(request: Request) -> AsyncIterator[None]:
    """One of the exports that there may be at once. Raises: TooManyRequests."""
    places: asyncio.Semaphore = request.app.state.export_places
    if places.locked():
        raise TooManyRequests(f"{EXPORTS_AT_ONCE} exports are under way: try again shortly")
    async with places:
        yield


ExportPlaceDep = Annotated[None, Depends(_export_place, scope="request")]


@router.get(
    "/{session_id}/export",
    response_class=Response,
    responses={200: {"description": "A safetensors file", "content": {ARCHIVE_MEDIA_TYPE: ARCHIVE_SCHEMA}}},
)
async def export(session_id: str, owner: Owner, store: StoreDep, _: ExportPlaceDep) -> Response:
    """The session with its features as a safetensors file, for POST /v1/sessions/import."""
    session, examples = await store.load_examples(owner, session_id)
    archive = await asyncio.to_thread(export_session, session, examples)
    # In parts, so that the answer counts as being given until its client has taken it.
    parts = (archive[start : start + PART_BYTES] for start in range(0, len(archive), PART_BYTES))
    return StreamingResponse(
        _each(parts),
        media_type=ARCHIVE_MEDIA_TYPE,
        headers={
            "Content-Disposition": f'attachment; filename="session-{session.id}.safetensors"',
            "Content-Length": str(len(archive)),
        },
    )


async def _each(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@router.post(
    "/import",
    status_code=status.HTTP_201_CREATED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                ARCHIVE_MEDIA_TYPE: ARCHIVE_SCHEMA,
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "format": "binary"}},
                        "required": ["file"],
                    }
                },
            },
        }
    },
)
async def import_session(request: Request, owner: Owner, store: StoreDep, engine: EngineDep) -> Session:
    """A new session from an exported file, sent as the body or as one file part."""
    data = await _read_archive_bytes(request)
    new, examples = await asyncio.to_thread(
        read_archive,
        data,
        weights_sha256=engine.checkpoint.sha256,
        numbers_per_face=engine.numbers_per_face,
    )
    return await store.create(owner, new, examples, weights_sha256=engine.checkpoint.sha256)


async def _read_archive_bytes(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return await request.body()
    async with request.form() as form:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if len(files) != 1:
            raise ArchiveInvalid("send one file part, or the file as the body")
        return await files[0].read()
