"""The tracer provider that sends spans by OTLP. It needs the packages of the extra `tracing`."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from app import VERSION

HIDDEN_ATTRIBUTES = ("url.path", "url.query")
"""Attributes that FastAPI sets and that can contain labels or keys"""


class HideUserText(SpanProcessor):
    """Overwrites the attributes that contain text of the client."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for name in HIDDEN_ATTRIBUTES:
            if name in (span.attributes or {}):
                span.set_attribute(name, "REDACTED")


def tracer_provider() -> TracerProvider:
    """A provider that sends spans as JSON; the SDK reads its settings from the OTEL_* variables."""
    own = Resource({"service.name": "csrn-serve", "service.version": VERSION})
    provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(HideUserText())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
