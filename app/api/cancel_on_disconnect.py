"""Stops the work for a client that has disconnected."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """ASGI middleware: cancels the handling of a request when its client disconnects before the response.

    Its work that waits in a queue is then dropped. A write that has begun is completed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body_read, disconnected = asyncio.Event(), asyncio.Event()

        async def receive_part() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                body_read.set()
            return message

        # A route may never read an empty body, so its message is read here.
        first = [] if _has_body(scope) else [await receive_part()]

        async def receive_body() -> Message:
            if first:
                return first.pop()
            if body_read.is_set():
                await disconnected.wait()
                return {"type": "http.disconnect"}
            return await receive_part()

        async def cancel_on_disconnect() -> None:
            await body_read.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnected.set()
            handling.cancel()

        handling = asyncio.ensure_future(self._app(scope, receive_body, send))
        watching = asyncio.ensure_future(cancel_on_disconnect())
        try:
            await handling
        except asyncio.CancelledError:
            if not disconnected.is_set():
                raise
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
