"""Sessions: create, list, get, update, delete, measure the quality, export and import."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from app.api.dependencies import Owner, SessionId, allow_json, require_json, require_same_weights
from app.api.errors import InvalidRequest
from app.api.media_types import FORM, media_type
from app.api.problems import UNKNOWN
from app.api.responses import quality_response
from app.api.state import Service
from app.inference.fairness import Lane
from app.sessions import archive
from app.sessions.errors import ArchiveInvalid
from csrn_client.field_rules import SessionName
from csrn_client.schemas import NewSession, Quality, Session, SessionChange, SessionPage

router = APIRouter(prefix="/v1/sessions", tags=["sessions"])
PART_BYTES = 64 * 1024
MAX_JSON_BYTES = 64 * 1024
"""Several times the size of the largest valid settings of a session"""
ARCHIVE_MEDIA_TYPE = "application/octet-stream"
ARCHIVE_SCHEMA = {"schema": {"type": "string", "format": "binary"}}
FILE_FORM_SCHEMA = {
    "schema": {
        "title": "ImportForm",
        "type": "object",
        "properties": {"file": {"type": "string", "format": "binary", "description": "The exported file"}},
        "required": ["file"],
        "additionalProperties": False,
    }
}


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[Depends(allow_json)],
    max_body_size=MAX_JSON_BYTES,
)
async def create_session(owner: Owner, service: Service, body: NewSession | None = None) -> Session:
    """Create an empty session for the weights that the service uses."""
    return await service.store.create(
        owner, body or NewSession(), weights_sha256=service.engine.checkpoint.sha256
    )


@router.get("")
async def list_sessions(
    owner: Owner,
    service: Service,
    limit: Annotated[int, Query(ge=1, le=1000, description="The most sessions of one page")] = 100,
    cursor: Annotated[
        str | None, Query(pattern="^[0-9]{1,18}$", description="next_cursor of the page before")
    ] = None,
    name: Annotated[
        SessionName | None, Query(description="List only the sessions with exactly this name")
    ] = None,
) -> SessionPage:
    """The sessions of the key, oldest first."""
    page, next_cursor = await service.store.list_page(owner, limit=limit, cursor=cursor, name=name)
    return SessionPage(sessions=page, next_cursor=next_cursor)


@router.get("/{session_id}")
async def get_session(session_id: SessionId, owner: Owner, service: Service) -> Session:
    """A session, with the number of examples of each class."""
    return await service.store.get(owner, session_id)


@router.patch("/{session_id}", dependencies=[Depends(require_json)], max_body_size=MAX_JSON_BYTES)
async def update_session(
    session_id: SessionId, owner: Owner, service: Service, body: SessionChange
) -> Session:
    """Change the name, the time to live or the metadata. What the body leaves out does not change."""
    return await service.store.update(owner, session_id, body)


@router.delete("/{session_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_session(session_id: SessionId, owner: Owner, service: Service) -> None:
    """Delete a session with all its examples."""
    await service.store.delete(owner, session_id)
    service.supports.forget(session_id)


@router.get("/{session_id}/quality")
async def get_quality(session_id: SessionId, owner: Owner, service: Service) -> Quality:
    """Leave-one-out confusion of the enabled classes, with a verdict on each."""
    session, examples = await service.store.load_examples(owner, session_id, enabled_only=True)
    require_same_weights(service, session)
    if not examples:
        return quality_response(session.revision, {}, [], unknown_below=None)
    lane = Lane(owner=owner, session_id=session_id)
    support = await service.engine.network.build_support_set(examples, lane=lane)
    left_out = await service.engine.network.leave_one_out(support, examples, lane=lane)
    classes = {known.label: known.examples for known in session.classes if known.enabled}
    return quality_response(session.revision, classes, left_out, unknown_below=support.unknown_below)


async def _limit_exports(owner: Owner, service: Service) -> AsyncIterator[None]:
    """Count an export until its client has received it: it holds a whole session in memory."""
    with service.exports.hold(owner):
        yield


@router.get(
    "/{session_id}/export",
    response_class=Response,
    responses={200: {"description": "A safetensors file", "content": {ARCHIVE_MEDIA_TYPE: ARCHIVE_SCHEMA}}},
    dependencies=[Depends(_limit_exports, scope="request")],
)
async def export_session(session_id: SessionId, owner: Owner, service: Service) -> Response:
    """Return the session with its features as a safetensors file, which POST /v1/sessions/import accepts."""
    session, examples, ttl_s = await service.store.load_for_export(owner, session_id)
    content = await asyncio.to_thread(archive.export_session, session, examples, ttl_s=ttl_s)
    # A body sent in parts ends only when the client has received it.
    parts = (content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES))
    return StreamingResponse(
        parts,
        media_type=ARCHIVE_MEDIA_TYPE,
        headers={
            "Content-Disposition": f'attachment; filename="session-{session.id}.safetensors"',
            "Content-Length": str(len(content)),
        },
    )


@router.post(
    "/import",
    status_code=status.HTTP_201_CREATED,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {ARCHIVE_MEDIA_TYPE: ARCHIVE_SCHEMA, FORM: FILE_FORM_SCHEMA},
        }
    },
)
async def import_session(request: Request, owner: Owner, service: Service) -> Session:
    """Create a session from an exported file, sent as the body or as one file part."""
    new, examples, disabled = await asyncio.to_thread(
        archive.read_archive,
        await _read_archive_bytes(request),
        weights_sha256=service.engine.checkpoint.sha256,
        numbers_per_face=service.engine.checkpoint.network.numbers_per_face,
    )
    return await service.store.create(
        owner, new, examples, disabled=disabled, weights_sha256=service.engine.checkpoint.sha256
    )


async def _read_archive_bytes(request: Request) -> bytes:
    """The file part of a form, or the body, whatever its content type: curl states one that means nothing.

    Raises: ArchiveInvalid unless a form has exactly one part, a file; InvalidRequest.
    """
    if media_type(request.headers) != FORM:
        return await request.body()
    async with request.form() as form:
        if unknown := [name for name in form if name != "file"]:
            raise InvalidRequest(f"{', '.join(unknown)}: {UNKNOWN}")
        match form.getlist("file"):
            case [UploadFile() as file]:
                return await file.read()
        raise ArchiveInvalid("send exactly one file part, named file, or the file as the body")
