"""What several routes need: the owner, path parameters, and checks of a request and a session."""

from __future__ import annotations

import codecs
import collections
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.openapi.models import HTTPBearer
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from app.api.errors import InvalidRequest, UnsupportedMediaType
from app.api.media_types import JSON, media_type
from app.api.problems import UNKNOWN
from app.api.state import ServiceState
from app.sessions.errors import ModelChanged
from app.sessions.store import SessionVersion
from csrn_client.field_rules import Label
from csrn_client.schemas import Session

# All dependencies are async: FastAPI runs others on another thread, and each change of threads takes time.


class _KeyOwner(SecurityBase):
    """Describes the key in /openapi.json, and returns its owner, which app.api.permissions has found."""

    model = HTTPBearer(description="Needed if the service has keys (CSRN_API_KEYS)")
    scheme_name = "HTTPBearer"

    async def __call__(self, request: Request) -> str:
        owner: str = request.state.owner
        return owner


Owner = Annotated[str, Depends(_KeyOwner())]
"""The name of the request's key"""
SessionId = Annotated[str, Path(description="The id of the session")]
LabelPath = Annotated[Label, Path(description="The label of the class, percent-encoded")]

ExampleIdPath = Annotated[str, Path(description="The id of the example")]


async def refuse_unknown_parameters(connection: HTTPConnection) -> None:
    """Refuse query parameters that the route does not have, and parameters that are sent twice.

    Routes that /openapi.json does not describe, such as the live page, ignore them: links to pages can have
    some that search engines or mail programs added.

    Raises: RequestValidationError; WebSocketRequestValidationError.
    """
    if not connection.scope["query_string"]:
        return
    known = _query_parameters(connection.scope["route"])
    if known is None:
        return
    sent = collections.Counter(name for name, _ in connection.query_params.multi_items())
    wrong = [
        {"type": "parameter", "loc": ("query", name), "msg": "send it once" if name in known else UNKNOWN}
        for name, count in sent.items()
        if name not in known or count > 1
    ]
    if wrong:
        if connection.scope["type"] == "websocket":
            raise WebSocketRequestValidationError(wrong)
        raise RequestValidationError(wrong)


def _query_parameters(route: APIRoute | APIWebSocketRoute) -> set[str] | None:
    """The names of a route's query parameters. None if it is not part of the API."""
    if isinstance(route, APIRoute) and not route.include_in_schema:
        return None
    # The routes have parameters in their paths and queries only.
    return {field.alias for field in get_flat_params(route.dependant)} - route.param_convertors.keys()


async def require_json(request: Request) -> None:
    """Raises: InvalidRequest if the body is empty; UnsupportedMediaType; RequestValidationError."""
    if not await request.body():
        raise InvalidRequest("the body is missing: send a JSON object")
    await _check_json(request, f"send the content type {JSON}")


async def allow_json(request: Request) -> None:
    """As require_json, but a request without a body is accepted too."""
    if await request.body() or "content-type" in request.headers:
        await _check_json(request, f"send the content type {JSON}, or no body")


async def _check_json(request: Request, advice: str) -> None:
    """Raises: UnsupportedMediaType unless the body is JSON; RequestValidationError unless it is UTF-8."""
    if media_type(request.headers) != JSON:
        raise UnsupportedMediaType(advice)
    body = await request.body()
    # FastAPI reads JSON in UTF-16 and UTF-32 too, and ignores a byte order mark.
    if b"\0" in body or body.startswith(codecs.BOM_UTF8):
        raise RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": ""}])


def require_same_weights(service: ServiceState, session: Session | SessionVersion) -> None:
    """Raises: ModelChanged if the examples were encoded with other weights than the service uses."""
    if session.weights_sha256 != service.engine.checkpoint.sha256:
        raise ModelChanged(
            "the examples were encoded with other weights: create a new session, or serve those weights"
        )
