"""Recognizes requests from web pages of other origins, and requests from other machines."""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
from collections.abc import Collection

from starlette.datastructures import Headers

from app.access.errors import ForbiddenOrigin


def is_foreign_page(headers: Headers, allowed: Collection[str] = ()) -> bool:
    """Whether the request comes from a web page whose origin is neither the service's own nor allowed.

    Args: allowed, origins as browsers write them; "*" allows every origin.
    """
    if (site := headers.get("sec-fetch-site")) is not None and not _is_allowed(headers, allowed):
        return site not in ("same-origin", "none")
    return is_foreign_origin(headers, allowed)


def is_foreign_origin(headers: Headers, allowed: Collection[str] = ()) -> bool:
    """Whether the Origin header names neither the host of the Host header nor an allowed origin."""
    origin = headers.get("origin")
    if origin is None or _is_allowed(headers, allowed):
        return False
    return origin.partition("://")[2] != headers.get("host")


def _is_allowed(headers: Headers, allowed: Collection[str]) -> bool:
    return "*" in allowed or headers.get("origin") in allowed


def require_loopback(headers: Headers) -> None:
    """Raises: ForbiddenOrigin if the request names another host (DNS rebinding) or comes through a proxy."""
    if not is_loopback(headers.get("host", "")):
        raise ForbiddenOrigin(
            "without keys the service answers only requests to localhost and 127.0.0.1: set CSRN_API_KEYS, "
            "or CSRN_ALLOW_ANONYMOUS=true to serve under any name"
        )
    # Requests through a proxy on this machine seem to come from this machine, even those of other machines.
    for name in headers:
        if name == "forwarded" or name.startswith("x-forwarded-"):
            raise ForbiddenOrigin(
                f"without keys the service answers only this machine, and the header {name} shows that a "
                "proxy passes requests on, perhaps from other machines: set CSRN_API_KEYS, or "
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
