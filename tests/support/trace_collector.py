"""A server that receives OpenTelemetry traces."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any


class TraceCollector(http.server.ThreadingHTTPServer):
    """Receives OTLP traces by HTTP and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Traces)
        self.bodies: list[bytes] = []

    @property
    def spans(self) -> list[dict[str, Any]]:
        scopes = [
            scope
            for body in self.bodies
            for resource in json.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
        ]
        return [span for scope in scopes for span in scope["spans"]]


class _Traces(http.server.BaseHTTPRequestHandler):
    server: TraceCollector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def trace_collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        yield collector
        collector.shutdown()
