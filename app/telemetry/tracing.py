"""OpenTelemetry traces, where the standard OTEL_* variables ask for them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from app import VERSION
from app.inference.observer import Observer, Stage
from model.errors import CsrnError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE_NAME = "csrn-serve"
LAST_TRACES_S = 3.0
"""How long the end of the service waits for a collector"""


class TracingImpossible(CsrnError):
    """Traces are asked for that cannot be made."""


class Tracing:
    """A span for each request, with one for each stage below it. Names and attributes hold no user's text."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider, self._tracer = provider, provider.get_tracer("csrn", VERSION)

    @contextlib.contextmanager
    def request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Span]:
        """The span of a request, below that of its client's traceparent; current until the end."""
        from opentelemetry import propagate, trace

        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        span = self._tracer.start_span(
            method,
            context=propagate.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": method},
        )
        # No record of exceptions: their messages may quote what a client sent.
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield span

    def observing(self, observer: Observer) -> Observer:
        """One who tells `observer` the same, and makes a span of each stage."""

        def stage_ended(stage: Stage, seconds: float) -> None:
            observer.stage_ended(stage, seconds)
            self._stage_ended(stage, seconds)

        return dataclasses.replace(observer, stage_ended=stage_ended)

    def close(self) -> None:
        """Sends what has not been sent, unless the collector is away."""
        sending = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        sending.start()
        sending.join(LAST_TRACES_S)

    def _stage_ended(self, stage: Stage, seconds: float) -> None:
        from opentelemetry import trace

        # Frames of a stream belong to no request: they would be traces of their own, many a second.
        if trace.get_current_span().is_recording():
            end_ns = time.time_ns()
            self._tracer.start_span(stage, start_time=end_ns - int(seconds * 1e9)).end(end_ns)


def trace_id(span: Span) -> str:
    """As logs and other services name the trace: 32 hexadecimal digits."""
    return f"{span.get_span_context().trace_id:032x}"


def end_request(span: Span, *, route: str, status: int) -> None:
    """Say what became of a request."""
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def start_tracing(environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """None where nothing asks for traces. Raises: TracingImpossible."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = (environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if endpoint else "none")).strip().lower()
    if exporter == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if exporter not in ("otlp", "console"):
        raise TracingImpossible("OTEL_TRACES_EXPORTER: expected otlp, console or none")
    if exporter == "otlp" and protocol == "grpc":
        raise TracingImpossible(
            "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/json; traces are not sent by grpc"
        )
    try:
        return Tracing(_provider(exporter))
    except ImportError:
        raise TracingImpossible(
            "OTEL_* asks for traces, but their packages are missing: see docs/observability.md"
        ) from None


def _provider(exporter: str) -> TracerProvider:
    """The rest of the standard variables is read by the SDK itself."""
    # JSON, because the exporter in protobuf needs a protobuf that MediaPipe does not work with.
    from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    own = Resource({"service.name": SERVICE_NAME, "service.version": VERSION})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter())
    )
    return provider
