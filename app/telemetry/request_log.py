"""Request ids, and one log line for each request and stream."""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("csrn.requests")

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
"""The id of the request that the current task answers"""
MONITORING_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes request these paths every few seconds, so these requests are not counted, logged or traced"""
CLIENT_GONE = 499
"""The status that metrics and logs show if the client left before the response, as in nginx"""
NO_ROUTE = "none"
"""The route that metrics and logs show if the path matches no route"""
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

CountRequest = Callable[[str, str, int, float], None]
"""Is called with the method, route template, status and seconds of each request that has ended"""

_Route = tuple[re.Pattern[str], str, set[str] | None]
"""The pattern of a route's paths, its template, and its methods"""


class RequestLog:
    """ASGI middleware: gives each request an id, and counts and logs each request and stream when it ends.

    The id is the client's X-Request-Id if it has 1 to 128 of A-Z a-z 0-9 . _ -, or else a new one.
    Every response carries it. If the client leaves before the response starts, the status is 499.
    """

    def __init__(self, app: ASGIApp, *, count: CountRequest) -> None:
        self._app, self._count = app, count
        self._routes: list[_Route] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _ACCEPTED_ID.fullmatch(sent_id) else secrets.token_hex(16)
        # The server runs each request in a task of its own, so the variable needs no reset.
        REQUEST_ID.set(request_id)
        scope.setdefault("state", {})
        # Found before the request is handled, because a request may be refused before it reaches its route.
        route = self._route_template(scope)
        start, started, gone, status = time.perf_counter(), False, False, 500
        close: dict[str, Any] = {"code": None, "reason": None}

        async def receive_and_watch() -> Message:
            nonlocal gone
            message = await receive()
            if message["type"] == "http.disconnect" and not started:
                gone = True
            elif message["type"] == "websocket.disconnect" and close["code"] is None:
                # The reason is the client's text, so the log omits it.
                close["code"] = message.get("code")
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal started, status
            if message["type"] in ("http.response.start", "websocket.accept"):
                started = True
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
                if gone:
                    message["status"] = CLIENT_GONE
                status = message.get("status", status)
            elif message["type"] == "websocket.close":
                close.update(code=message.get("code", 1000), reason=message.get("reason") or None)
            await send(message)

        try:
            await self._app(scope, receive_and_watch, send_with_id)
            if gone and not started:
                await Response(status_code=CLIENT_GONE)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - start
            ended = {"duration_ms": round(seconds * 1000, 1), "key": scope["state"].get("owner")}
            if scope["type"] == "websocket":
                fields = {"route": route, **close, **ended}
                logger.info("stream closed" if started else "stream refused", extra={"fields": fields})
            elif route not in MONITORING_PATHS:
                self._count(scope["method"], route, status, seconds)
                fields = {"method": scope["method"], "route": route, "status": status, **ended}
                level = logging.WARNING if status >= 500 else logging.INFO
                logger.log(level, "request", extra={"fields": fields})

    def _route_template(self, scope: Scope) -> str:
        """The path of the matching route, with the names of its parameters instead of their values."""
        path, method = scope["path"].removeprefix(scope.get("root_path", "")), scope.get("method")
        other_method = None
        for pattern, template, methods in self._routes or self._read_routes(scope["app"]):
            if pattern.match(path):
                if not methods or method in methods:
                    return template
                other_method = other_method or template
        return other_method or NO_ROUTE

    def _read_routes(self, app: FastAPI) -> list[_Route]:
        routes = iter_route_contexts(app.routes)
        self._routes = [(route.path_regex, str(route.path), route.methods) for route in routes]
        return self._routes
