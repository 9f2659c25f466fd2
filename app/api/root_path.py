"""Serves the application below a path, such as /faces, behind a proxy."""

from __future__ import annotations

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

INNER_PATHS = ("/metrics",)
"""Paths for operators alone. They are not served below the root path, which the proxy makes public"""


class RootPath:
    """ASGI middleware: removes the root path from the path of each request that begins with it.

    The proxy may remove the root path or pass it on. Everything behind this middleware, such as the check of
    keys, sees the same path as the routes. The page's addresses are relative, so a request for the root path
    without a slash at its end is redirected to the path with the slash.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        """root_path: begins with a slash and does not end with one."""
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if path == self._root_path and scope["type"] == "http":
                await RedirectResponse(f"{self._root_path}/")(scope, receive, send)
                return
            inner = path.removeprefix(self._root_path)
            if path.startswith(f"{self._root_path}/") and inner not in INNER_PATHS:
                scope = {**scope, "path": inner, "raw_path": None}
        await self._app(scope, receive, send)
