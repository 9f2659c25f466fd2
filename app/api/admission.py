"""What is let in: how many requests at once, how large, and how slow."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import ApiError, problem_response
from app.telemetry.request_log import MONITORING_PATHS

MAX_SMALL_BYTES = 64 * 1024
"""Of what is no file: several times what the largest request in JSON takes"""
IMPORT_PATH = "/v1/sessions/import"
UNREAD_S = 60
"""A part of an answer that its client does not take for so long ends it"""


class Admission:
    """ASGI middleware: bounds the requests in flight, and the bytes and seconds of their bodies.

    Bytes are counted as they arrive, so that a client holds only what it has sent. Once draining is
    set, connections are closed after their answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_requests: int,
        max_body_bytes: int,
        max_body_bytes_in_flight: int,
        body_idle_s: float,
        body_s: float,
        unread_s: float = UNREAD_S,
        draining: asyncio.Event,
    ) -> None:
        self._app = app
        self._max_requests, self._requests = max_requests, 0
        self._max_body_bytes = max_body_bytes
        self._max_bytes_in_flight, self._bytes_in_flight = max_body_bytes_in_flight, 0
        self._body_idle_s, self._body_s = body_idle_s, body_s
        self._unread_s, self._draining = unread_s, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in MONITORING_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        max_bytes = self._max_body_bytes
        if not _may_be_large(scope, headers):
            max_bytes = min(MAX_SMALL_BYTES, max_bytes)
        if (refusal := self._refusal(headers, max_bytes)) is not None:
            await problem_response(refusal)(scope, receive, send)
            return
        body = _Body(self, receive, max_bytes)
        self._requests += 1
        try:
            await self._app(scope, body.receive, self._sending(send))
        except* _Unread:
            # uvicorn closes the connection of an answer that does not end.
            pass
        finally:
            self._requests -= 1
            self._bytes_in_flight -= body.received

    def _refusal(self, headers: Headers, max_bytes: int) -> ApiError | None:
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > max_bytes:
            return ApiError("body_too_large", f"a request of this kind has at most {max_bytes} bytes")
        if self._requests >= self._max_requests:
            return ApiError("overloaded", "too many requests are being answered: try again shortly")
        return None

    def _sending(self, send: Send) -> Send:
        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining.is_set():
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
            try:
                async with asyncio.timeout(self._unread_s):
                    await send(message)
            except TimeoutError:
                raise _Unread from None

        return send_in_time

    def take(self, count: int) -> None:
        """Of the bytes that may be in flight. Raises: HTTPException."""
        self._bytes_in_flight += count
        if self._bytes_in_flight > self._max_bytes_in_flight:
            raise HTTPException(429, "the bodies of too many requests are on their way: try again shortly")

    def seconds_left(self, begun: float) -> float:
        """For the next part of a body that began to arrive at a moment of time.monotonic()."""
        return min(self._body_idle_s, begun + self._body_s - time.monotonic())


def _may_be_large(scope: Scope, headers: Headers) -> bool:
    """Whether the body is parsed as files, not as a whole; told as FastAPI does, by the first header."""
    is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
    return is_form or scope["path"] == IMPORT_PATH


class _Unread(Exception):
    """The client does not take its answer."""


class _Body:
    """One request's body. What it raises is no ApiError: FastAPI lets only HTTPException through there."""

    def __init__(self, admission: Admission, receive: Receive, max_bytes: int) -> None:
        self._admission, self._receive, self._max_bytes = admission, receive, max_bytes
        self._begun, self._complete = time.monotonic(), False
        self.received = 0

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout(self._admission.seconds_left(self._begun)):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the body did not arrive in time") from None
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        count = len(message.get("body", b""))
        self.received += count
        self._admission.take(count)
        if self.received > self._max_bytes:
            raise HTTPException(413, f"a request of this kind has at most {self._max_bytes} bytes")
        return message
