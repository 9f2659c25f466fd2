"""Why a client may not use the service, or not now.

AccessError
├─ KeysInvalid           CSRN_API_KEYS is malformed
├─ Unauthorized     401  unauthorized
├─ ForbiddenOrigin  403  forbidden_origin
├─ CostTooHigh      413  body_too_large
├─ Overloaded       429  overloaded
└─ RateLimited      429  rate_limited
"""

from __future__ import annotations

from model.errors import CsrnError


class AccessError(CsrnError):
    """Base class of the errors of access."""


class KeysInvalid(AccessError):
    """CSRN_API_KEYS is malformed. The message says which entry is wrong, and never what it contains."""


class Unauthorized(AccessError):
    code, status, title = "unauthorized", 401, "Send a valid API key as Authorization: Bearer KEY"


class ForbiddenOrigin(AccessError):
    """The request comes from a page of another origin or, without keys, from another machine or a proxy."""

    code, status, title = "forbidden_origin", 403, "The service does not answer requests of this origin"


class CostTooHigh(AccessError):
    """The request costs more than the whole rate of its key, so waiting does not help."""

    code, status, title = "body_too_large", 413, "The request is too large"


class Overloaded(AccessError):
    """The service, or one key, already has as much in progress as allowed."""

    code, status, title = "overloaded", 429, "Too much is in progress or waiting: try again shortly"


class RateLimited(AccessError):
    code, status, title = "rate_limited", 429, "The key has used up its rate"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
