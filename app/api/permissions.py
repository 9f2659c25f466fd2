"""Decides whether a request is answered, before its body is read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.api_keys import bearer_key
from app.access.errors import ForbiddenOrigin, Unauthorized
from app.access.origins import is_foreign_page, require_loopback
from app.api.errors import NotFound
from app.api.media_types import JSON, media_type
from app.api.state import ServiceState

KEYED_PATHS = "/v1/"
"""Paths that need a key begin with this"""
JSON_MEMORY = 4
"""A JSON body counts this many times, because it is in memory as bytes, as text and as images"""


class Permissions:
    """ASGI middleware: checks the origin, key and rate, and the requests and body bytes in progress.

    It stores the owner of the key for the routes.

    A service without keys answers everyone who can reach it, except web pages of other origins: such a page
    can reach services on the machine of the person who opened it. Browsers name the origin of the page. A
    service for one machine also requires that the request names that machine, against DNS rebinding, and that
    it did not come through a proxy, which would let other machines in.

    The route of the stream checks its key itself, because only it can tell a browser why it refuses.

    Raises: AccessError; NotFound.
    """

    def __init__(self, app: ASGIApp, *, service: ServiceState) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(KEYED_PATHS):
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"]:
            raise NotFound  # PostgreSQL cannot compare text with it
        headers = Headers(scope=scope)
        owner = self._owner(headers)
        scope.setdefault("state", {})["owner"] = owner
        self._service.rate_limit.charge(owner, 1)
        body_bytes = self._body_bytes(headers)
        with self._service.requests.hold(owner), self._service.body_bytes.hold(owner, body_bytes):
            await self._app(scope, receive, send)

    def _body_bytes(self, headers: Headers) -> int:
        """Memory for the request's body, as large as possible if the client does not state its size."""
        most = self._service.settings.max_body_bytes
        size = most if "transfer-encoding" in headers else min(int(headers.get("content-length", 0)), most)
        if media_type(headers) == JSON:
            return min(JSON_MEMORY * size, self._service.body_bytes.most_per_key)
        return size

    def _owner(self, headers: Headers) -> str:
        """The owner of the request's key. Raises: ForbiddenOrigin; Unauthorized."""
        keys = self._service.keys
        if not keys.required and is_foreign_page(headers, self._service.settings.allowed_origins):
            raise ForbiddenOrigin(
                "without keys the service answers no web page of another origin: set CSRN_API_KEYS, or list "
                "the origin in CSRN_ALLOWED_ORIGINS"
            )
        if self._service.loopback_only:
            require_loopback(headers)
        owner = keys.owner(bearer_key(headers))
        if owner is None:
            raise Unauthorized
        return owner
