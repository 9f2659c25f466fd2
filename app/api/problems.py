"""Errors as clients see them: RFC 9457 problem details."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.errors import (
    BodyTooLarge,
    InvalidLabel,
    InvalidRequest,
    MethodNotAllowed,
    NoImages,
    NotFound,
    NotReady,
    RequestError,
)
from csrn_client.schemas import FieldError, Problem
from model.errors import CsrnError

logger = logging.getLogger("csrn")

PROBLEM_MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20
"""The most wrong fields that one problem lists"""
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "model": Problem},
    "429": {"description": "Busy: try again later", "model": Problem, "headers": RETRY_AFTER},
    "5XX": {"description": "A fault of the service, as a problem", "model": Problem},
    "503": {"description": "Not ready: try again later", "model": Problem, "headers": RETRY_AFTER},
}
"""How OpenAPI describes the errors of every route"""
FORM_LIMITS = ("Too many", "Part exceeded", "Field exceeded")
"""How starlette's messages begin if a form has too many parts or too large fields"""
FIELD_ERRORS: dict[str, type[InvalidRequest]] = {
    "images": NoImages,
    "labels": InvalidLabel,
    "label": InvalidLabel,
}
"""Fields with an error of their own"""


def problem_response(error: CsrnError) -> JSONResponse:
    """The application/problem+json response for an error."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": str(error) if error.status < 500 else error.title,
        "code": error.code,
        **(error.members if isinstance(error, RequestError) else {}),
    }
    return JSONResponse(content, error.status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every expected error as a problem. app.api.faults answers the unexpected ones."""

    @app.exception_handler(CsrnError)
    async def on_error(_: Request, error: CsrnError) -> JSONResponse:
        if error.status >= 500:
            logger.error("%s: %s", type(error).__name__, error)
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            FieldError(field=".".join(map(str, item["loc"][1:])), detail=plain_message(item["msg"]))
            for item in error.errors()[:MAX_ERRORS]
        ]
        kind = FIELD_ERRORS.get(errors[0].field.partition(".")[0], InvalidRequest)
        detail = "; ".join(f"{item.field}: {item.detail}".lstrip(": ") for item in errors)
        return problem_response(kind(detail, errors))

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        response = problem_response(_error_of(error))
        response.headers.update(error.headers or {})
        return response


def _error_of(error: HTTPException) -> CsrnError:
    """The error that starlette or FastAPI means by an HTTPException."""
    if error.status_code == 404:
        return NotFound()
    if error.status_code == 405:
        return MethodNotAllowed()
    if error.status_code == 413 or error.detail.startswith(FORM_LIMITS):
        return BodyTooLarge(error.detail)
    if isinstance(error.__cause__, OSError):
        logger.error("a request body cannot be stored in a temporary file", exc_info=error.__cause__)
        return NotReady()
    return InvalidRequest("the body does not match its content type")


def plain_message(message: str) -> str:
    """pydantic's message without the names of its internals."""
    if message.startswith("Value error, Expected UploadFile"):
        return "send a file part (with curl: -F name=@file)"
    return message.removeprefix("Value error, ")


def describe_problems(app: FastAPI) -> None:
    """Describe problems in /openapi.json: their codes and their media type.

    FastAPI gives every model the media type application/json.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        described = app.openapi_schema is not None
        schema = generate()
        if not described:
            operations = [operation for path in schema["paths"].values() for operation in path.values()]
            for status in PROBLEM_RESPONSES:
                for content in (operation["responses"][status]["content"] for operation in operations):
                    content[PROBLEM_MEDIA_TYPE] = content.pop("application/json")
            schema["components"]["schemas"]["Problem"]["properties"]["code"] |= _code_schema()
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def _code_schema() -> dict[str, Any]:
    """How OpenAPI describes the codes: each with its status and title."""
    kinds = sorted(
        {kind.code: kind for kind in _all_errors(CsrnError)}.values(), key=lambda k: (k.status, k.code)
    )
    return {
        "enum": [kind.code for kind in kinds],
        "description": "\n".join(f"- `{kind.code}` ({kind.status}): {kind.title}" for kind in kinds),
    }


def _all_errors(kind: type[CsrnError]) -> Iterator[type[CsrnError]]:
    """All classes below an error in the hierarchy, then the error itself."""
    for below in kind.__subclasses__():
        yield from _all_errors(below)
    yield kind
