"""Recognizes requests that web pages of other origins send, or that come from other machines."""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
from collections.abc import Collection

from starlette.datastructures import Headers

from app.access.errors import ForbiddenOrigin


def is_foreign_page(headers: Headers, allowed: Collection[str] = ()) -> bool:
    """Whether a page of another origin than the service's own and the allowed ones sends the request.

    allowed: origins as browsers write them; "*" for every origin.
    """
    if (site := headers.get("sec-fetch-site")) is not None and not _is_allowed(headers, allowed):
        return site not in ("same-origin", "none")
    return is_foreign_origin(headers, allowed)


def is_foreign_origin(headers: Headers, allowed: Collection[str] = ()) -> bool:
    """Whether the Origin header names another host than the Host header, and no allowed origin."""
    origin = headers.get("origin")
    if origin is None or _is_allowed(headers, allowed):
        return False
    return origin.partition("://")[2] != headers.get("host")


def _is_allowed(headers: Headers, allowed: Collection[str]) -> bool:
    return "*" in allowed or headers.get("origin") in allowed


def require_loopback(headers: Headers) -> None:
    """Raises: ForbiddenOrigin unless the request names this machine (against DNS rebinding) and no proxy."""
    if not is_loopback(headers.get("host", "")):
        raise ForbiddenOrigin(
            "without keys the service answers only requests to localhost and 127.0.0.1: set CSRN_API_KEYS, "
            "or CSRN_ALLOW_ANONYMOUS=true to serve under any name"
        )
    # A proxy on this machine connects from this machine, whoever sent the request.
    for name in headers:
        if name == "forwarded" or name.startswith("x-forwarded-"):
            raise ForbiddenOrigin(
                f"without keys the service answers only this machine, and the header {name} shows that a "
                "proxy passes requests on, perhaps those of others: set CSRN_API_KEYS, or "
                "CSRN_ALLOW_ANONYMOUS=true to serve everyone"
            )


def is_loopback(host: str) -> bool:
    """Whether a name or address, with or without a port, means this machine."""
    try:
        # The hostname has no port and no brackets of IPv6.
        hostname = urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    for name in (host, hostname):
        if name == "localhost":
            return True
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(name).is_loopback
    return False
