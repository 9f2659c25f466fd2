"""Live classification: frames in, the newest first, one result out for each that is answered."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from app.access.api_keys import ApiKeys, bearer_key
from app.access.errors import RateLimited, TooManyStreams
from app.access.open_streams import OpenStreams
from app.access.origins import asks_for_loopback, is_foreign_origin
from app.access.rate_limit import RateLimit
from app.api.responses import result_answer
from app.inference.engine import Engine, QueryOutcome, Timings, scored_face
from app.inference.errors import NoClasses, QueueFull, WorkLost
from app.inference.faces import FaceStream
from app.inference.observer import FrameOutcome
from app.inference.support_cache import SupportCache
from app.sessions.errors import SessionNotFound, StoreUnavailable
from app.sessions.store import SessionStore
from app.settings import Settings
from csrn_client.schemas import ItemError, Session, StreamResult
from model.errors import CsrnError

logger = logging.getLogger("csrn")
router = APIRouter(tags=["classify"])

KEY_PROTOCOL = "csrn.key."
"""Prefix of the subprotocol by which browsers, which cannot set headers, send a key in base64url"""
PROTOCOL = "csrn.v1"

CLOSE_CODES = {
    "unsupported": 1003,
    "shutting_down": 1012,
    "forbidden_origin": 4403,
    "unauthorized": 4401,
    "session_not_found": 4404,
    "idle": 4408,
    "model_changed": 4409,
    "overloaded": 4429,
    "not_ready": 4503,
}
"""Why a stream is closed: the reason and its code. Frames over the limit are closed with 1009."""


OUTCOME_OF_CODE: dict[str, FrameOutcome] = {
    "overloaded": "overloaded",
    "rate_limited": "rate_limited",
    "internal_error": "failed",
}
"""How frames are counted that could not be worked on"""


class Closed(Exception):
    """The stream is to be closed, for a reason in CLOSE_CODES."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Frame:
    index: int
    data: bytes
    arrived: float
    dropped: int


class _NewestFrame:
    """Holds the newest frame until it is taken; those that it replaces are counted as dropped."""

    def __init__(self) -> None:
        self._count = self._dropped = 0
        self._frame: _Frame | None = None
        self._there = asyncio.Event()

    def put(self, data: bytes) -> None:
        self._dropped += self._frame is not None
        self._frame = _Frame(index=self._count, data=data, arrived=time.perf_counter(), dropped=self._dropped)
        self._count += 1
        self._there.set()

    async def take(self) -> _Frame:
        await self._there.wait()
        self._there.clear()
        assert self._frame is not None
        frame, self._frame, self._dropped = self._frame, None, 0
        return frame


@router.websocket("/v1/sessions/{session_id}/stream")
async def stream(
    websocket: WebSocket,
    session_id: str,
    unknown_below: Annotated[float | None, Query(ge=0, le=1)] = None,
    regions: bool = False,
) -> None:
    """Binary frames (JPEG, PNG, WebP) in, one JSON StreamResult out for each that is answered."""
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
    try:
        await _Stream(websocket, session_id, unknown_below, regions=regions).run()
    except Closed as closed:
        (reason,) = closed.args
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(CLOSE_CODES[reason], reason)
    except WebSocketDisconnect:
        pass


class _Stream:
    def __init__(
        self, websocket: WebSocket, session_id: str, unknown_below: float | None, *, regions: bool
    ) -> None:
        """Raises: Closed where the client may not."""
        self._websocket, self._session_id, self._unknown_below = websocket, session_id, unknown_below
        self._regions = regions
        state = websocket.app.state
        self._engine: Engine = state.engine
        self._store: SessionStore = state.store
        self._supports: SupportCache = state.supports
        self._settings: Settings = state.settings
        self._streams: OpenStreams = state.streams
        self._rate_limit: RateLimit = state.rate_limit
        self._draining: asyncio.Event = state.draining
        self._owner = _owner(websocket, state.api_keys, loopback_only=state.loopback_only)
        websocket.state.owner = self._owner

    async def run(self) -> None:
        """Until the client leaves. Raises: Closed; WebSocketDisconnect."""
        try:
            with self._streams.one_of(self._owner):
                await self._follow()
        except TooManyStreams:
            raise Closed("overloaded") from None

    async def _follow(self) -> None:
        await self._session()
        faces = await self._engine.faces.open_stream()
        newest = _NewestFrame()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive, newest)
                tasks.start_soon(self._answer_all, faces, newest)
        except* (Closed, WebSocketDisconnect) as group:
            raise group.exceptions[0] from None
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(faces.close)

    async def _receive(self, newest: _NewestFrame) -> None:
        while True:
            try:
                with anyio.fail_after(self._settings.stream_idle_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                raise Closed("idle") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if (data := message.get("bytes")) is None:
                raise Closed("unsupported")
            newest.put(data)

    async def _answer_all(self, faces: FaceStream, newest: _NewestFrame) -> None:
        while True:
            frame = await self._next(newest)
            result = await self._answer(faces, frame)
            await self._websocket.send_text(result.model_dump_json(exclude_unset=True))

    async def _next(self, newest: _NewestFrame) -> _Frame:
        """Raises: Closed once the service is shutting down: the frame before has been answered."""
        taking, ending = asyncio.ensure_future(newest.take()), asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((taking, ending), return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                raise Closed("shutting_down")
            return taking.result()
        finally:
            taking.cancel()
            ending.cancel()

    async def _answer(self, faces: FaceStream, frame: _Frame) -> StreamResult:
        """Raises: Closed."""
        outcome: QueryOutcome = []
        unknown_below = self._unknown_below
        error = None
        try:
            self._rate_limit.charge(self._owner, 1)
            outcome, unknown_below = await self._outcome(faces, frame)
        except QueueFull:
            error = ItemError(code="overloaded", detail="too much is queued: this frame was passed over")
        except RateLimited as limited:
            error = ItemError(code="rate_limited", detail=str(limited))
        except Closed:
            raise
        except Exception as fault:
            if not isinstance(fault, WorkLost):
                logger.exception("a frame failed")
            error = ItemError(code="internal_error", detail="the fault has been logged")
        observer = self._engine.observer
        observer.frames_ended(_frame_outcome(outcome, error), 1)
        observer.frames_ended("dropped", frame.dropped)
        result = result_answer(
            frame.index,
            None,
            outcome,
            unknown_below=unknown_below,
            layout=self._engine.checkpoint.config.layout if self._regions else None,
        )
        return StreamResult(
            index=frame.index,
            filename=None,
            faces=result.faces,
            error=error or result.error,
            unknown_below=unknown_below,
            dropped=frame.dropped,
            latency_ms=round((time.perf_counter() - frame.arrived) * 1000, 2),
        )

    async def _outcome(self, faces: FaceStream, frame: _Frame) -> tuple[QueryOutcome, float | None]:
        """The frame's face, scored by the session as it is now, and the threshold that applies to it.

        Raises: Closed; QueueFull.
        """
        timings = Timings(self._engine.observer)
        found = await self._engine.faces.find_in_frame(faces, frame.data, lane=self._session_id)
        timings.mark("faces")
        if isinstance(found, CsrnError):
            return found, self._unknown_below
        # After the face: what was acknowledged meanwhile counts.
        session = await self._session()
        try:
            with _store_faults():
                support = await self._supports.get(self._owner, session)
        except NoClasses:
            return [scored_face(face, []) for face in found], self._unknown_below
        timings.mark("support")
        (outcome,) = await self._engine.score_faces([found], support, lane=self._session_id)
        timings.mark("network")
        return outcome, support.unknown_below if self._unknown_below is None else self._unknown_below

    async def _session(self) -> Session:
        """The session as it is now. Raises: Closed."""
        with _store_faults():
            session = await self._store.get(self._owner, self._session_id)
        if session.weights_sha256 != self._engine.checkpoint.sha256:
            raise Closed("model_changed")
        return session


def _frame_outcome(outcome: QueryOutcome, error: ItemError | None) -> FrameOutcome:
    if error is not None:
        return OUTCOME_OF_CODE[error.code]
    if isinstance(outcome, CsrnError):
        return OUTCOME_OF_CODE.get(outcome.code, "unreadable")
    return "scored" if outcome else "no_face"


@contextlib.contextmanager
def _store_faults() -> Iterator[None]:
    try:
        yield
    except SessionNotFound:
        raise Closed("session_not_found") from None
    except StoreUnavailable:
        raise Closed("not_ready") from None


def _owner(websocket: WebSocket, keys: ApiKeys, *, loopback_only: bool) -> str:
    """Whose stream it is, by header or subprotocol. Raises: Closed."""
    headers = websocket.headers
    if is_foreign_origin(headers) or (loopback_only and not asks_for_loopback(headers)):
        raise Closed("forbidden_origin")
    key = bearer_key(headers)
    if key is None:
        key = next(map(_decoded, filter(_is_key, websocket.scope.get("subprotocols", []))), "")
    owner = keys.owner(key)
    if owner is None:
        raise Closed("unauthorized")
    return owner


def _is_key(protocol: str) -> bool:
    return protocol.startswith(KEY_PROTOCOL)


def _decoded(protocol: str) -> str:
    encoded = protocol.removeprefix(KEY_PROTOCOL)
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return ""
