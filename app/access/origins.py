"""Recognizes requests that web pages of other origins send."""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse

from starlette.datastructures import Headers


def is_foreign_page(headers: Headers) -> bool:
    """Whether a page of another origin than the service's own sends the request."""
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in ("same-origin", "none")
    return is_foreign_origin(headers)


def is_foreign_origin(headers: Headers) -> bool:
    """Whether the Origin header names another host than the Host header."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def asks_for_loopback(headers: Headers) -> bool:
    """Whether the Host header means this machine."""
    return is_loopback(headers.get("host", ""))


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
