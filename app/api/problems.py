"""Errors as clients see them: RFC 9457 problem details, and their description in /openapi.json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi.responses import JSONResponse

from app.api.errors import RequestError
from csrn_client.schemas import Problem
from model.errors import CsrnError

PROBLEM_MEDIA_TYPE = "application/problem+json"
UNKNOWN = "the request has no field or parameter of this name"
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "model": Problem},
    "429": {"description": "Busy: try again later", "model": Problem, "headers": RETRY_AFTER},
    "5XX": {"description": "The service failed", "model": Problem},
    "503": {"description": "Not ready: try again later", "model": Problem, "headers": RETRY_AFTER},
}
"""How OpenAPI describes the errors of every route"""


def public_detail(error: CsrnError) -> str:
    """The text about an error that clients get: not the message of a failure of the service."""
    return str(error) if error.status < 500 else error.title


def problem_members(error: CsrnError) -> dict[str, Any]:
    """The members of the problem details of an error."""
    return {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": public_detail(error),
        "code": error.code,
        **(error.members if isinstance(error, RequestError) else {}),
    }


def problem_response(error: CsrnError) -> JSONResponse:
    """The application/problem+json response for an error."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(problem_members(error), error.status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def plain_message(message: str) -> str:
    """pydantic's message without the names of its internals."""
    if message == "Extra inputs are not permitted":
        return UNKNOWN
    return message.removeprefix("Value error, ")


def code_schema() -> dict[str, Any]:
    """The OpenAPI description of all codes, each with its status and title."""
    kinds = sorted(
        {kind.code: kind for kind in _all_errors(CsrnError)}.values(), key=lambda k: (k.status, k.code)
    )
    return {
        "enum": [kind.code for kind in kinds],
        "description": "\n".join(f"- `{kind.code}` ({kind.status}): {kind.title}" for kind in kinds)
        + "\n\nIf none of the images can be added, the status is 422, and the code is that of the images if "
        "all have the same one.",
    }


def _all_errors(kind: type[CsrnError]) -> Iterator[type[CsrnError]]:
    """All classes below an error in the hierarchy, then the error itself."""
    for below in kind.__subclasses__():
        yield from _all_errors(below)
    yield kind
