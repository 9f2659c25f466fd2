"""Live classification over a WebSocket: the newest frame is classified, older ones are dropped."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import logging
import time
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect
from fastapi.exceptions import WebSocketRequestValidationError
from pydantic_core import to_json

from app.access.api_keys import bearer_key
from app.access.errors import ForbiddenOrigin, Unauthorized
from app.access.origins import is_foreign_origin, require_loopback
from app.api.bodies import ScoreOptions
from app.api.dependencies import require_same_weights
from app.api.errors import InvalidRequest, StreamIdle, UnsupportedMediaType
from app.api.results import result_members
from app.api.state import Service, ServiceState
from app.inference.engine import QueryOutcome, ScoredFace, Timings
from app.inference.errors import NoClasses
from app.inference.faces import FaceStream
from app.inference.fairness import Lane
from app.inference.observer import FrameOutcome
from app.sessions.errors import SessionError
from model.errors import CsrnError

logger = logging.getLogger("csrn")
router = APIRouter(tags=["classify"])

KEY_PROTOCOL = "csrn.key."
"""Prefix of the subprotocol with the key in base64url, for browsers, which cannot set headers"""
PROTOCOL = "csrn.v1"
CLOSE_CODE = 4000
"""An error closes the stream with this plus its HTTP status, and with its code as the reason"""
OUTCOME_OF_CODE: dict[str, FrameOutcome] = {
    "overloaded": "overloaded",
    "rate_limited": "rate_limited",
    "internal_error": "failed",
}
"""How the metrics count frames with these errors; other errors are unreadable frames"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Frame:
    index: int
    data: bytes
    arrived_s: float
    """The time of arrival by time.perf_counter()"""
    dropped: int
    """Number of frames since the last taken one that this one replaced"""


class _NewestFrame:
    """Holds the newest frame until it is taken, and counts the frames that it replaces."""

    def __init__(self) -> None:
        self._count = self._dropped = 0
        self._frame: _Frame | None = None
        self._arrived = asyncio.Event()

    def put(self, data: bytes) -> None:
        self._dropped += self._frame is not None
        now_s = time.perf_counter()
        self._frame = _Frame(index=self._count, data=data, arrived_s=now_s, dropped=self._dropped)
        self._count += 1
        self._arrived.set()

    async def take(self) -> _Frame:
        await self._arrived.wait()
        self._arrived.clear()
        assert self._frame is not None
        frame, self._frame, self._dropped = self._frame, None, 0
        return frame


@router.websocket("/v1/sessions/{session_id}/stream")
async def stream(
    websocket: WebSocket,
    service: Service,
    session_id: str,
    options: Annotated[ScoreOptions, Query()],
) -> None:
    """Receive frames (JPEG, PNG, WebP) as binary messages; send a StreamResult for each classified frame."""
    await _accept(websocket)
    try:
        owner = websocket.state.owner = _owner(websocket, service)
        classification = _Stream(websocket, service, owner, session_id, options)
        with service.streams.hold(owner):
            await classification.run()
    except CsrnError as error:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(CLOSE_CODE + error.status, error.code)
    except WebSocketDisconnect:
        pass


async def refuse_parameters(websocket: WebSocket, _: WebSocketRequestValidationError) -> None:
    """Close a stream whose parameters are not as documented with 4422. Browsers cannot read a refusal."""
    await _accept(websocket)
    await websocket.close(CLOSE_CODE + InvalidRequest.status, InvalidRequest.code)


async def _accept(websocket: WebSocket) -> None:
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)


def _owner(websocket: WebSocket, service: ServiceState) -> str:
    """The owner of the key in the header or a subprotocol. Raises: ForbiddenOrigin; Unauthorized."""
    headers = websocket.headers
    if is_foreign_origin(headers, service.settings.allowed_origins):
        raise ForbiddenOrigin
    if service.loopback_only:
        require_loopback(headers)
    key = bearer_key(headers)
    if key is None:
        offered = websocket.scope.get("subprotocols", [])
        key = next((_decoded(protocol) for protocol in offered if protocol.startswith(KEY_PROTOCOL)), "")
    owner = service.keys.owner(key)
    if owner is None:
        raise Unauthorized
    return owner


def _decoded(protocol: str) -> str:
    encoded = protocol.removeprefix(KEY_PROTOCOL)
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return ""


class _Stream:
    """Classifies the frames of one WebSocket."""

    def __init__(
        self,
        websocket: WebSocket,
        service: ServiceState,
        owner: str,
        session_id: str,
        options: ScoreOptions,
    ) -> None:
        self._websocket, self._service, self._engine = websocket, service, service.engine
        self._owner, self._session_id, self._unknown_below = owner, session_id, options.unknown_below
        self._lane = Lane(owner=owner, session_id=session_id)
        self._top_k = options.top_k
        self._layout = service.engine.checkpoint.config.layout if options.regions else None

    async def run(self) -> None:
        """Classify until the client disconnects. Raises: SessionError; RequestError; WebSocketDisconnect."""
        require_same_weights(self._service, await self._service.store.version(self._owner, self._session_id))
        faces = self._engine.faces.open_stream()
        newest = _NewestFrame()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._receive_frames, newest)
                tasks.start_soon(self._send_results, faces, newest)
        except* (CsrnError, WebSocketDisconnect) as group:
            raise group.exceptions[0] from None
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(faces.close)

    async def _receive_frames(self, newest: _NewestFrame) -> None:
        while True:
            try:
                with anyio.fail_after(self._service.settings.stream_idle_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                raise StreamIdle from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if (data := message.get("bytes")) is None:
                raise UnsupportedMediaType
            newest.put(data)

    async def _send_results(self, faces: FaceStream, newest: _NewestFrame) -> None:
        while True:
            result = await self._result(faces, await newest.take())
            await self._websocket.send_text(to_json(result).decode())

    async def _result(self, faces: FaceStream, frame: _Frame) -> dict[str, Any]:
        """The StreamResult of a frame, which may be an error. Raises: SessionError, which ends the stream."""
        outcome: QueryOutcome
        unknown_below = self._unknown_below
        try:
            self._service.rate_limit.charge(self._owner, 1)
            outcome, unknown_below = await self._classify(faces, frame)
        except SessionError:
            raise
        except CsrnError as error:
            outcome = error
        except Exception:
            logger.exception("a frame failed")
            outcome = CsrnError()
        self._engine.observer.frames_ended(_counted_as(outcome), 1)
        self._engine.observer.frames_ended("dropped", frame.dropped)
        result = result_members(
            frame.index, None, outcome, unknown_below, top_k=self._top_k, layout=self._layout
        )
        return {
            **result,
            "error": result.get("error"),
            "unknown_below": unknown_below,
            "dropped": frame.dropped,
            "latency_ms": round((time.perf_counter() - frame.arrived_s) * 1000, 2),
        }

    async def _classify(self, faces: FaceStream, frame: _Frame) -> tuple[QueryOutcome, float | None]:
        """Score the frame's face with the current examples of the session. Also returns the threshold.

        Raises: SessionError; QueueFull.
        """
        timings = Timings(self._engine.observer)
        found = await self._engine.faces.find_in_frame(faces, frame.data, lane=self._lane)
        timings.mark("faces")
        if isinstance(found, CsrnError):
            return found, self._unknown_below
        # Read after the face was found, to use changes of the session that were made meanwhile.
        session = await self._service.store.version(self._owner, self._session_id)
        require_same_weights(self._service, session)
        try:
            support = await self._service.supports.get(self._owner, session)
        except NoClasses:
            return [ScoredFace(face=face, scores=None) for face in found], self._unknown_below
        timings.mark("support")
        (outcome,) = await self._engine.score_faces([found], support, lane=self._lane)
        timings.mark("network")
        return outcome, support.unknown_below if self._unknown_below is None else self._unknown_below


def _counted_as(outcome: QueryOutcome) -> FrameOutcome:
    if isinstance(outcome, CsrnError):
        return OUTCOME_OF_CODE.get(outcome.code, "unreadable")
    return "scored" if outcome else "no_face"
