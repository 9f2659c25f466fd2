"""Decides whether a request may be answered, before its body is read."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.api_keys import ApiKeys, bearer_key
from app.access.errors import AccessError, ForbiddenOrigin, Unauthorized
from app.access.origins import asks_for_loopback, is_foreign_page
from app.access.rate_limit import RateLimit
from app.access.requests_in_flight import RequestsInFlight
from app.api.problems import problem_response

KEYED_PATHS = "/v1/"
"""Paths that need a key begin with this"""


class Permissions:
    """ASGI middleware: checks origin, key, rate and number of requests, and notes the owner of the key.

    A service without keys serves everyone who can reach it, except web pages of other origins: a page that
    somebody opened reaches services on that person's own machine. Browsers name the page's origin. If the
    service is meant for one machine only, the request must also name that machine (against DNS rebinding).

    The stream's route checks its key itself, because only it can tell a browser why it refuses.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: ApiKeys,
        loopback_only: bool,
        rate_limit: RateLimit,
        requests: RequestsInFlight,
    ) -> None:
        self._app, self._keys, self._loopback_only = app, keys, loopback_only
        self._rate_limit, self._requests = rate_limit, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(KEYED_PATHS):
            await self._app(scope, receive, send)
            return
        try:
            owner = self._owner(Headers(scope=scope))
            self._rate_limit.charge(owner, 1)
            with self._requests.one_of(owner):
                scope.setdefault("state", {})["owner"] = owner
                await self._app(scope, receive, send)
        except AccessError as refusal:
            await problem_response(refusal)(scope, receive, send)

    def _owner(self, headers: Headers) -> str:
        """The owner of the request's key. Raises: ForbiddenOrigin; Unauthorized."""
        foreign = is_foreign_page(headers) or (self._loopback_only and not asks_for_loopback(headers))
        if foreign and not self._keys.required:
            raise ForbiddenOrigin(
                "without keys the service answers only requests to localhost and 127.0.0.1, and no web page "
                "of another origin: set CSRN_API_KEYS, or CSRN_ALLOW_ANONYMOUS=true to serve under any name"
            )
        owner = self._keys.owner(bearer_key(headers))
        if owner is None:
            raise Unauthorized
        return owner
