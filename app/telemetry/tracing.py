"""OpenTelemetry traces: FastAPI makes a span for each request; the OTEL_* variables say where spans go."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace
from starlette.types import Scope

from app import VERSION
from app.inference.observer import Stage
from app.telemetry.request_log import MONITORING_PATHS
from model.errors import CsrnError


class TracingUnavailable(CsrnError):
    """The environment asks for traces that this installation cannot send."""


def _is_untraced(scope: Scope) -> bool:
    # A stream would be one trace with a span for every stage of every frame.
    return scope["type"] == "websocket" or scope["path"] in MONITORING_PATHS


FASTAPI_TELEMETRY: TelemetryConfig = {
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    # FastAPI's own exporter needs a protobuf version that MediaPipe does not work with.
    "auto_configure": False,
    "exclude": _is_untraced,
}


def set_up_tracing(environ: Mapping[str, str] = os.environ) -> None:
    """Send the spans of this process to the OTLP endpoint that the environment names, if it names one.

    Raises: TracingUnavailable.
    """
    general, traces = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
    exporter = environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    endpoint = environ.get(traces + "ENDPOINT") or environ.get(general + "ENDPOINT")
    if exporter == "none" or not endpoint:
        return
    if exporter != "otlp":
        raise TracingUnavailable("OTEL_TRACES_EXPORTER: expected otlp or none")
    if (environ.get(traces + "PROTOCOL") or environ.get(general + "PROTOCOL")) == "grpc":
        raise TracingUnavailable("OTEL_EXPORTER_OTLP_PROTOCOL: expected http/json, because grpc is missing")
    try:
        from app.telemetry.otlp import tracer_provider
    except ImportError:
        raise TracingUnavailable(
            "OTEL_* asks for traces, but their packages are missing: install the extra tracing"
        ) from None
    trace.set_tracer_provider(tracer_provider())


def record_stage(stage: Stage, seconds: float) -> None:
    """Record a stage that has just ended as a span below that of the current request, if it has one."""
    if trace.get_current_span().is_recording():
        end_ns = time.time_ns()
        span = trace.get_tracer("csrn", VERSION).start_span(stage, start_time=end_ns - int(seconds * 1e9))
        span.end(end_ns)
