"""Sees each request and stream from its start to its end, and tells metrics, log and trace of it."""

from __future__ import annotations

import contextlib
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.metrics import Metrics
from app.telemetry.request_id import HEADER, LOG_FIELDS, request_id
from app.telemetry.routes import FOR_WATCHERS, RouteTemplates
from app.telemetry.tracing import Tracing, end_request, trace_id

logger = logging.getLogger("csrn.requests")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_GONE = 499
"""Status of a request whose client went away before the answer, as nginx counts it"""


class _Exchange:
    """The messages of one request or stream as they pass."""

    def __init__(self, receive: Receive, send: Send, request_id: str) -> None:
        self._receive, self._send = receive, send
        self._id_header = (HEADER, request_id.encode())
        self.bytes_in = 0
        self.status: int | None = None
        self.accepted = self.client_gone = False
        self.close_code: int | None = None
        self.close_reason: str | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self.bytes_in += len(message.get("body", b""))
        elif kind == "http.disconnect":
            self.client_gone = self.client_gone or self.status is None
        elif kind == "websocket.disconnect" and self.close_code is None:
            # The reason is the client's text, so it is not told.
            self.close_code = message.get("code")
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.accept"):
            self.status, self.accepted = message.get("status"), True
            message = {**message, "headers": [*message.get("headers", ()), self._id_header]}
        elif kind == "websocket.close":
            self.close_code, self.close_reason = message.get("code", 1000), message.get("reason")
        await self._send(message)


class Requests:
    """ASGI middleware: outside of all that answers, inside of what changes the path."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, tracing: Tracing | None, templates: RouteTemplates
    ) -> None:
        self._app, self._metrics, self._tracing, self._templates = app, metrics, tracing, templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        # Made here, so that what a route writes into it is seen here.
        scope.setdefault("state", {})
        name = request_id(scope["headers"])
        exchange = _Exchange(receive, send, name)
        ids = LOG_FIELDS.set({"request_id": name})
        try:
            if scope["type"] == "http":
                await self._request(scope, exchange)
            else:
                await self._stream(scope, exchange)
        finally:
            LOG_FIELDS.reset(ids)

    async def _request(self, scope: Scope, exchange: _Exchange) -> None:
        start = time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests_in_flight += 1
        tracing = None if scope["path"] in FOR_WATCHERS else self._tracing
        with tracing.request(method, scope["headers"]) if tracing else contextlib.nullcontext() as span:
            if span is not None:
                LOG_FIELDS.set({**LOG_FIELDS.get(), "trace_id": trace_id(span)})
            unanswered = CLIENT_GONE
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except Exception:
                unanswered = 500
                raise
            finally:
                self._metrics.requests_in_flight -= 1
                status = CLIENT_GONE if exchange.client_gone else exchange.status or unanswered
                route = self._templates.of(scope)
                seconds = time.perf_counter() - start
                self._metrics.request_ended(method, route, status, seconds)
                if span is not None:
                    span.update_name(f"{method} {route}")
                    end_request(span, route=route, status=status)
                self._log_request(scope, exchange, method, route, status, seconds)

    def _log_request(
        self, scope: Scope, exchange: _Exchange, method: str, route: str, status: int, seconds: float
    ) -> None:
        level = logging.WARNING if status >= 500 else logging.DEBUG if route in FOR_WATCHERS else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "bytes_in": exchange.bytes_in,
            "key": scope["state"].get("owner"),
        }
        logger.log(level, "request", extra={"fields": fields})

    async def _stream(self, scope: Scope, exchange: _Exchange) -> None:
        start, route = time.perf_counter(), self._templates.of(scope)
        opened = False

        async def send(message: Message) -> None:
            nonlocal opened
            await exchange.send(message)
            if exchange.accepted and not opened:
                opened = True
                logger.info("stream opened", extra={"fields": {"route": route}})

        try:
            await self._app(scope, exchange.receive, send)
        finally:
            fields = {
                "route": route,
                "code": exchange.close_code,
                "reason": exchange.close_reason or None,
                "duration_ms": round((time.perf_counter() - start) * 1000, 1),
                "key": scope["state"].get("owner"),
            }
            told = "stream closed" if opened else "stream refused"
            logger.info(told, extra={"fields": fields})
