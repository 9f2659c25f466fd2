"""Keeps web pages of other origins from using a service that asks for no keys."""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.api_keys import KEYED_PATHS
from app.api.errors import ApiError, problem_response

REFUSED = (
    "without keys the service answers to localhost and 127.0.0.1 alone, and to no page of another origin: "
    "set CSRN_API_KEYS, or CSRN_ALLOW_ANONYMOUS=true to serve by any name"
)


class RefuseForeignPages:
    """ASGI middleware for a service without keys: whoever can reach it may use it, but for web pages.

    A page that its visitor opened elsewhere reaches what listens on the visitor's own machine. It is
    told by what browsers say of it and, where the service is meant for this machine alone, by the name
    that it reached it by (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool) -> None:
        self._app, self._loopback_only = app, loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(KEYED_PATHS):
            headers = Headers(scope=scope)
            if is_foreign_page(headers) or (self._loopback_only and not asks_for_loopback(headers)):
                refusal = ApiError("forbidden_origin", REFUSED)
                await problem_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_foreign_page(headers: Headers) -> bool:
    """Whether a page of another origin than the service's own asks."""
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    return is_foreign_origin(headers)


def is_foreign_origin(headers: Headers) -> bool:
    """Whether the Origin that a browser sent is another than the host that was asked."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def asks_for_loopback(headers: Headers) -> bool:
    """Whether it was this machine's own name that was asked for."""
    return is_loopback(headers.get("host", ""))


def is_loopback(host: str) -> bool:
    """Whether a name or address, with or without a port, means this machine."""
    for name in (host, _hostname(host)):
        if name == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
    return False


def _hostname(host: str) -> str:
    """Without its port, and without the brackets of IPv6."""
    try:
        return urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
