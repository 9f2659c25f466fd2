"""Answers every error with a problem."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import (
    BodyTooLarge,
    InvalidLabel,
    InvalidRequest,
    MethodNotAllowed,
    NoImages,
    NotFound,
)
from app.api.problems import plain_message, problem_response
from csrn_client.schemas import FieldError
from model.errors import CsrnError

logger = logging.getLogger("csrn")

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
"""The methods of the API"""
MAX_ERRORS = 20
"""The most wrong fields that one problem lists"""
MAX_NAME = 100
"""The most characters of a field's name that a problem repeats"""
FORM_LIMITS = ("Too many", "Part exceeded", "Field exceeded")
"""How starlette's messages begin if a form has too many parts or too large fields"""
STATUS_ERRORS: dict[int, type[CsrnError]] = {404: NotFound, 405: MethodNotAllowed, 413: BodyTooLarge}
"""Errors of the statuses that starlette and FastAPI answer themselves"""


class ErrorHandling:
    """ASGI middleware: answers every exception of routes and inner middleware with a problem.

    It logs unexpected exceptions with their traceback and answers 500 without their text. FastAPI would run
    a handler of such exceptions outside of every middleware, and its response would have no request id.

    Starlette refuses a body with a too large Content-Length in plain text: that answer is replaced too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_unless_plain_413(message: Message) -> None:
            nonlocal started
            if not started and message["status"] == 413:
                content_type = Headers(raw=message.get("headers", [])).get("content-type", "")
                if content_type.startswith("text/plain"):
                    raise BodyTooLarge
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_unless_plain_413)
        except Exception as error:
            if started:
                raise  # the server logs it and closes the connection
            if not isinstance(error, CsrnError):
                logger.error("a request failed", exc_info=error)
                error = CsrnError()
            elif error.status >= 500:
                logger.error("%s: %s", type(error).__name__, error)
            await problem_response(error)(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    """Answer the errors that FastAPI and starlette find themselves."""

    @app.exception_handler(RequestValidationError)
    async def on_validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_field_error(item, error.body) for item in error.errors()[:MAX_ERRORS]]
        kind = _error_about(errors[0].field, error.errors()[0]["type"])
        detail = "; ".join(f"{item.field}: {item.detail}".lstrip(": ") for item in errors)
        return problem_response(kind(detail, errors))

    @app.exception_handler(HTTPException)
    async def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        response = problem_response(_error_of(error))
        response.headers.update(error.headers or {})
        if error.status_code == 405 and isinstance(request.scope.get("route"), APIRoute):
            response.headers["Allow"] = ", ".join(_methods(request))
        return response


def _methods(request: Request) -> list[str]:
    """The methods of all routes that have the address of a request: each route names only its own."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def _field_error(error: Mapping[str, Any], body: Any) -> FieldError:
    """What is wrong with which field.

    Args: error, of pydantic or FastAPI; body, the text of JSON that FastAPI could not read.
    """
    if error["type"] == "json_invalid":
        place = re.search(r"line \d+ column \d+", error["msg"])
        where = f"at {place[0]}" if place else "in UTF-8"
        if isinstance(body, str):
            wrong = json.JSONDecodeError("", body, error["loc"][1])
            where = f"at line {wrong.lineno} column {wrong.colno}"
        return FieldError(field="", detail=f"the body is not valid JSON {where}")
    name = ".".join(map(str, error["loc"][1:]))
    return FieldError(field=name[:MAX_NAME], detail=plain_message(error["msg"]))


def _error_about(field: str, kind: str) -> type[InvalidRequest]:
    """The error of a wrong field. Args: kind, the type of pydantic's error."""
    if field in ("images", "support") and kind in ("missing", "too_short"):
        return NoImages
    if field.partition(".")[0] in ("label", "labels") and kind != "extra_forbidden":
        return InvalidLabel
    return InvalidRequest


def _error_of(error: HTTPException) -> CsrnError:
    """The error that an HTTPException of starlette or FastAPI means."""
    if error.status_code in STATUS_ERRORS:
        return STATUS_ERRORS[error.status_code]()
    if error.detail.startswith(FORM_LIMITS):
        return BodyTooLarge(error.detail)
    return InvalidRequest("the body does not match its content type")
