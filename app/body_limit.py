"""Refuses bodies over the limit, counted while they arrive."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ApiError, problem_response

MAX_JSON_BYTES = 64 * 1024
"""Several times what the largest request in JSON takes"""


class BodyLimit:
    """ASGI middleware: answers 413 once a body has more bytes than allowed, chunked or not."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        as_json = headers.get(b"content-type", b"").startswith(b"application/json")
        max_bytes = min(MAX_JSON_BYTES, self._max_bytes) if as_json else self._max_bytes
        too_large = ApiError("body_too_large", f"a request of this kind has at most {max_bytes} bytes")
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > max_bytes:
            await problem_response(too_large)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > max_bytes:
                # Not an ApiError: FastAPI lets only this kind through while it reads a body.
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
