"""Routes see the path as it was sent, so that a slash that belongs to a label does not divide it."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class EncodedPaths:
    """ASGI middleware: undoes the server's decoding of the path. Whoever takes a label decodes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "raw_path" in scope:
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await self._app(scope, receive, send)
