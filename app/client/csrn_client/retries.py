"""When the client sends a request again, and after which pause."""

from __future__ import annotations

import logging

import httpx

RETRIES = 5
"""How often a request is sent again by default"""
CONNECTION_RETRIES = 2
"""The same where no connection can be made. The pauses take 0.6 s together, as long as a short restart"""
LONGEST_PAUSE_S = 30.0
PASSING = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
"""Errors that may be gone at the next attempt"""
NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout)

logger = logging.getLogger("csrn_client")


def pause_before_retry(
    outcome: httpx.Response | httpx.HTTPError, retried: int, retries: int | None
) -> float | None:
    """Seconds to wait before the request is sent again. None if it is not. A retry is logged as a warning.

    Args: retried, how often the request was sent again already; retries, the most by the user's choice.
    """
    most = retries if retries is not None else _default_retries(outcome)
    if retried >= most or not _can_help(outcome):
        return None
    wish = "" if isinstance(outcome, httpx.HTTPError) else outcome.headers.get("retry-after", "")
    pause_s = min(float(wish) if wish.isdecimal() else 0.2 * 2**retried, LONGEST_PAUSE_S)
    logger.warning("%s: trying again in %.1f s (%d of %d)", described(outcome), pause_s, retried + 1, most)
    return pause_s


def described(outcome: httpx.Response | httpx.HTTPError) -> str:
    """What happened to a request, with its URL."""
    url = shown(outcome.request.url)
    if not isinstance(outcome, httpx.HTTPError):
        return f"{url} answered {outcome.status_code} {outcome.reason_phrase}"
    reason = str(outcome) or type(outcome).__name__
    if isinstance(outcome, NO_CONNECTION):
        return f"cannot connect to {url}: {reason}"
    if isinstance(outcome, httpx.TimeoutException):
        return f"no answer from {url} in time: {reason}"
    if isinstance(outcome, httpx.NetworkError | httpx.RemoteProtocolError):
        return f"lost the connection to {url}: {reason}"
    return f"cannot send the request to {url}: {reason}"


def shown(url: httpx.URL) -> str:
    """A URL for messages, without a password and without a query."""
    return str(url.copy_with(userinfo=b"", query=None))


def _default_retries(outcome: httpx.Response | httpx.HTTPError) -> int:
    return CONNECTION_RETRIES if isinstance(outcome, NO_CONNECTION) else RETRIES


def _can_help(outcome: httpx.Response | httpx.HTTPError) -> bool:
    """Whether another attempt can succeed, and cannot do twice what must be done once."""
    if isinstance(outcome, NO_CONNECTION):
        return True
    request = outcome.request
    # Other POST requests add something, and PATCH can rename a class, which works only once.
    repeatable = request.method not in ("POST", "PATCH") or request.url.path.endswith("/classify")
    if isinstance(outcome, httpx.HTTPError):
        return repeatable and isinstance(outcome, PASSING)
    # A service that answers 429 did not carry out the request. One that answers 503 may have begun to.
    return outcome.status_code == 429 or (outcome.status_code == 503 and repeatable)
