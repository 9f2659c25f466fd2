"""The id of a request: taken from its client or made, echoed, and in each of its log lines."""

from __future__ import annotations

import contextvars
import re
import secrets
from collections.abc import Iterable, Mapping

HEADER = b"x-request-id"
_ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")

LOG_FIELDS: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("log_fields")
"""What every log line of the current request carries: its ids"""


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The client's X-Request-ID if it is 1 to 128 of A-Z a-z 0-9 . _ -, else a new one."""
    sent = next((value for name, value in headers if name == HEADER), b"")
    return sent.decode() if _ACCEPTED.fullmatch(sent) else secrets.token_hex(16)
