"""Stops the work for a client that has gone."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """ASGI middleware: cancels a request's handling when its client goes away before the answer.

    What waits in a queue is then dropped; a write that was begun goes on to its end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, gone = asyncio.Event(), asyncio.Event()
        # A route may never ask for a body that is empty, so its one message is taken here.
        taken = [] if _has_body(scope) else [await receive()]
        if taken:
            received.set()

        async def receive_body() -> Message:
            if taken:
                return taken.pop()
            if received.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                received.set()
            return message

        async def watch() -> None:
            await received.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            handling.cancel()

        handling = asyncio.ensure_future(self._app(scope, receive_body, send))
        watching = asyncio.ensure_future(watch())
        try:
            await handling
        except asyncio.CancelledError:
            if not gone.is_set():
                handling.cancel()
                raise
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
