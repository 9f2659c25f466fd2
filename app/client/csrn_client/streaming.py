"""The WebSocket of a stream: how it is opened, and what its messages and its end mean."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pydantic

from csrn_client.errors import (
    ClientError,
    MissingPackage,
    ServiceProblem,
    ServiceUnreachable,
    UnexpectedResponse,
)
from csrn_client.images import Image, each_image
from csrn_client.messages import CONNECT_LIMIT_S
from csrn_client.retries import shown
from csrn_client.schemas import Problem, StreamResult

if TYPE_CHECKING:
    import websockets.asyncio.client
    import websockets.exceptions
    import websockets.sync.client

AsyncFrames = Image | Iterable[Image] | AsyncIterable[Image]
Frames = Image | Iterable[Image]

PROBLEM_CODES = range(4400, 4600)
"""An error closes a stream with 4000 plus its HTTP status, and with its code as the reason"""
FRAME_TOO_LARGE = 1009


def stream_url(service: httpx.URL, path: str, options: dict[str, Any]) -> httpx.URL:
    """The ws:// or wss:// address of a stream."""
    return httpx.URL(
        service.copy_with(
            scheme={"http": "ws", "https": "wss"}[service.scheme],
            raw_path=service.raw_path.rstrip(b"/") + path.encode(),
        ),
        params=options,
    )


def connect_async(url: httpx.URL, headers: httpx.Headers) -> websockets.asyncio.client.connect:
    """Open the WebSocket for asyncio. Raises: MissingPackage."""
    with _package():
        from websockets.asyncio.client import connect
    return connect(str(url), **_options(url, headers))


def connect_sync(url: httpx.URL, headers: httpx.Headers) -> websockets.sync.client.ClientConnection:
    """Open the WebSocket. Raises: MissingPackage; the errors of websockets."""
    with _package():
        from websockets.sync.client import connect
    socket: websockets.sync.client.ClientConnection = connect(str(url), **_options(url, headers))
    return socket


async def each_async(frames: AsyncFrames) -> AsyncIterator[Image]:
    """The frames of an iterable or an asynchronous iterable, one by one."""
    if isinstance(frames, AsyncIterable):
        async for frame in frames:
            yield frame
    else:
        for frame in each_image(frames):
            yield frame


def each_sync(frames: Frames) -> Iterator[Image]:
    """The frames of an iterable, one by one."""
    return each_image(frames)


@contextlib.contextmanager
def connecting(url: httpx.URL) -> Iterator[None]:
    """Turns the errors of opening a WebSocket into the client's own."""
    try:
        yield
    except ClientError:
        raise
    except Exception as error:
        response = getattr(error, "response", None)  # of InvalidStatus
        if response is None:
            raise ServiceUnreachable(
                f"cannot connect to {shown(url)}: {error or type(error).__name__}"
            ) from error
        try:
            problem = Problem.model_validate_json(response.body or b"")
        except pydantic.ValidationError:
            raise UnexpectedResponse(
                f"{shown(url)} answered {response.status_code}, but not as CSRN Serve does"
            ) from None
        raise ServiceProblem(problem) from None


@contextlib.contextmanager
def exchanging(url: httpx.URL) -> Iterator[None]:
    """Turns the end of a stream into the error that the service states."""
    import websockets.exceptions

    try:
        yield
    except websockets.exceptions.ConnectionClosed as error:
        problem = _problem(error)
        if problem is None:
            raise ServiceUnreachable(f"lost the connection to {shown(url)}: {error}") from error
        raise ServiceProblem(problem) from None


def stream_result(message: str | bytes, url: httpx.URL) -> StreamResult:
    """The result in a message of the service. Raises: UnexpectedResponse."""
    try:
        return StreamResult.model_validate_json(message)
    except pydantic.ValidationError:
        raise UnexpectedResponse(f"{shown(url)} answered, but not as CSRN Serve does") from None


def _problem(closed: websockets.exceptions.ConnectionClosed) -> Problem | None:
    """Why the service closed the stream, if it stated an error."""
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (None, "")
    if code == FRAME_TOO_LARGE:
        code, reason = 4413, "body_too_large"
    if code is None or code not in PROBLEM_CODES or not reason:
        return None
    return Problem(
        title="The service closed the stream",
        status=code - 4000,
        detail=reason.replace("_", " "),
        code=reason,
    )


@contextlib.contextmanager
def _package() -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise MissingPackage(
            "a stream needs the package websockets: pip install websockets, or csrn-client[stream]"
        ) from None


def _options(url: httpx.URL, headers: httpx.Headers) -> dict[str, Any]:
    key = headers.get("authorization")
    return {
        "additional_headers": {} if key is None else {"Authorization": key},
        "compression": None,  # images are compressed already
        "open_timeout": CONNECT_LIMIT_S,
        "ssl": httpx.create_ssl_context() if url.scheme == "wss" else None,
    }
