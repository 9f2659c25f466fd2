"""Errors as clients see them: RFC 9457 problem details with a short stable code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.api.problems import CODES
from csrn_client.schemas import Problem

logger = logging.getLogger("csrn")

RETRY_AFTER_S = 1
MAX_ERRORS = 20
"""Of a request that are told"""


class ApiError(Exception):
    """A problem to be answered with; `extra` holds further members of the problem."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: int = RETRY_AFTER_S,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.extra = code, detail, extra or {}
        self.retry_after_s = retry_after_s
        self.status = CODES[code][0] if status is None else status


PROBLEM_MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 0}}}
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "model": Problem},
    "429": {"description": "Busy: ask again later", "model": Problem, "headers": RETRY_AFTER},
    "5XX": {"description": "A fault of the service, as a problem", "model": Problem},
    "503": {"description": "Not ready: ask again later", "model": Problem, "headers": RETRY_AFTER},
}
"""How OpenAPI describes the errors of every route."""
CODE_SCHEMA = {
    "enum": [*CODES],
    "description": "\n".join(f"- `{code}` ({status}): {title}" for code, (status, title) in CODES.items()),
}
"""How OpenAPI describes the codes of problems."""

FORM_LIMITS = ("Too many", "Part exceeded", "Field exceeded")
"""How starlette's words begin where a form has more parts, or larger fields, than it may"""
FIELD_CODES = {"images": "no_images", "labels": "invalid_label", "label": "invalid_label"}
"""What a missing or malformed field is answered with, where it has a code of its own."""


def describe_problems(app: FastAPI) -> None:
    """Describe problems in /openapi.json: their codes, and their media type.

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
            schema["components"]["schemas"]["Problem"]["properties"]["code"] |= CODE_SCHEMA
        return schema

    app.openapi = openapi  # type: ignore[method-assign]


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error that `app` expects as a problem; app.api.faults answers the others."""

    @app.exception_handler(ApiError)
    async def on_api_error(_: Request, error: ApiError) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        errors = [
            {"field": ".".join(str(part) for part in item["loc"][1:]), "detail": plain_message(item["msg"])}
            for item in found[:MAX_ERRORS]
        ]
        field = next((str(part) for part in found[0]["loc"][1:]), "")
        return problem_response(
            ApiError(
                FIELD_CODES.get(field, "invalid_request"),
                "; ".join(f"{item['field']}: {item['detail']}".lstrip(": ") for item in errors),
                extra={"errors": errors},
            )
        )

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        codes = {
            404: "not_found",
            405: "method_not_allowed",
            413: "body_too_large",
        }
        # What else there is comes from parsers of bodies.
        code = codes.get(error.status_code, "invalid_request")
        detail = CODES[code][1]
        if error.detail.startswith(FORM_LIMITS):
            code, detail = "body_too_large", error.detail
        elif isinstance(error.__cause__, OSError):
            logger.error("a body cannot be held", exc_info=error.__cause__)
            code, detail = "not_ready", "the service cannot hold the body: its temporary files have no room"
        elif code == "invalid_request":
            detail = "the body is not what its content type says"
        response = problem_response(ApiError(code, detail))
        response.headers.update(error.headers or {})
        return response


def plain_message(message: str) -> str:
    """pydantic's message without its inner workings."""
    if message.startswith("Value error, Expected UploadFile"):
        return "send a file part (with curl: -F name=@file)"
    return message.removeprefix("Value error, ")


def problem_response(error: ApiError) -> JSONResponse:
    """The application/problem+json answer for an error."""
    headers = {}
    if error.status in (429, 503):
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = {
        "type": "about:blank",
        "title": CODES[error.code][1],
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.extra,
    }
    return JSONResponse(content, error.status, headers=headers, media_type=PROBLEM_MEDIA_TYPE)
