"""Asks for a key before anything else is done for a request."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.api_keys import KEYED_PATHS, ApiKeys, bearer_key
from app.api.errors import ApiError, problem_response


class RequireKey:
    """ASGI middleware: refuses whoever has no valid key before their body is read, and notes the owner.

    The stream's route asks for its key by itself: only it can tell a browser why it is refused.
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(KEYED_PATHS):
            owner = self._keys.owner(bearer_key(Headers(scope=scope)))
            if owner is None:
                refusal = ApiError("unauthorized", "send Authorization: Bearer KEY with a configured key")
                await problem_response(refusal)(scope, receive, send)
                return
            scope.setdefault("state", {})["owner"] = owner
        await self._app(scope, receive, send)
