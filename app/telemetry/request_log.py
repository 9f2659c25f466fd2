"""Request ids, and one log line for each request and stream."""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import time
from typing import Any

from prometheus_fastapi_instrumentator.metrics import Info
from prometheus_fastapi_instrumentator.routing import get_route_name
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("csrn.requests")

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
"""The id of the request that the current task answers"""
MONITORING_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes request these paths every few seconds, so these requests are not counted, logged or traced"""
CLIENT_GONE = 499
"""The status that metrics and logs show if the client left before the response, as in nginx"""
_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestIds:
    """ASGI middleware: gives each request an id, and logs each stream when it ends.

    The id is the client's X-Request-Id if it has 1 to 128 of A-Z a-z 0-9 . _ -, or else a new one.
    Every response carries it. If the client leaves before the response starts, the status is 499.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        sent_id = Headers(scope=scope).get("x-request-id", "")
        request_id = sent_id if _ACCEPTED_ID.fullmatch(sent_id) else secrets.token_hex(16)
        # The server runs each request in a task of its own, so the variable needs no reset.
        REQUEST_ID.set(request_id)
        scope.setdefault("state", {})
        start, started, gone = time.perf_counter(), False, False
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
            nonlocal started
            if message["type"] in ("http.response.start", "websocket.accept"):
                started = True
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                message = {**message, "headers": headers}
                if gone:
                    message["status"] = CLIENT_GONE
            elif message["type"] == "websocket.close":
                close.update(code=message.get("code", 1000), reason=message.get("reason") or None)
            await send(message)

        try:
            await self._app(scope, receive_and_watch, send_with_id)
            if gone and not started:
                await Response(status_code=CLIENT_GONE)(scope, receive, send_with_id)
        finally:
            if scope["type"] == "websocket":
                route = get_route_name(HTTPConnection(scope), should_include_root_path=False)
                fields = {
                    "route": route or "none",
                    **close,
                    **_duration_and_key(scope, time.perf_counter() - start),
                }
                logger.info("stream closed" if started else "stream refused", extra={"fields": fields})


def log_request(info: Info) -> None:
    """Write the log line of a request that has ended."""
    status = int(info.modified_status)
    fields = {
        "method": info.method,
        "route": info.modified_handler,
        "status": status,
        **_duration_and_key(info.request.scope, info.modified_duration),
    }
    logger.log(logging.WARNING if status >= 500 else logging.INFO, "request", extra={"fields": fields})


def _duration_and_key(scope: Scope, seconds: float) -> dict[str, Any]:
    return {"duration_ms": round(seconds * 1000, 1), "key": scope["state"].get("owner")}
