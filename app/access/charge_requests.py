"""Counts each request against the rate of its key."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.rate_limit import RateLimit, RateLimited, rate_problem
from app.api.errors import problem_response


class ChargeRequests:
    """ASGI middleware: each request of a key counts one; its images are counted where they are read."""

    def __init__(self, app: ASGIApp, *, rate_limit: RateLimit) -> None:
        self._app, self._rate_limit = app, rate_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (owner := scope.get("state", {}).get("owner")) is not None:
            try:
                self._rate_limit.charge(owner, 1)
            except RateLimited as error:
                await problem_response(rate_problem(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)
