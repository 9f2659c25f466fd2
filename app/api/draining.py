"""Announces a shutdown before it begins, so that a proxy sends its next requests elsewhere."""

from __future__ import annotations

import asyncio
import signal

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.errors import NotReady
from app.api.problems import problem_response


class Draining:
    """ASGI middleware: after SIGTERM, /readyz answers 503 for `drain_s`; only then does the server shut down.

    Without this pause a proxy could connect at the moment the listener closes, and its request would be lost.
    """

    def __init__(self, app: ASGIApp, *, drain_s: float) -> None:
        self._app, self._drain_s, self._draining = app, drain_s, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._take_over_sigterm()
        elif self._draining and scope["path"] == "/readyz":
            await problem_response(NotReady())(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _take_over_sigterm(self) -> None:
        """Called after the server has installed its own handler. A second SIGTERM shuts down at once."""
        loop, shut_down = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)
        assert callable(shut_down)

        def drain() -> None:
            loop.call_later(0 if self._draining else self._drain_s, shut_down, signal.SIGTERM, None)
            self._draining = True

        loop.add_signal_handler(signal.SIGTERM, drain)
