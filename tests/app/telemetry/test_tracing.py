"""tests/e2e/test_observability.py checks the spans that arrive at a collector."""

from __future__ import annotations

import sys

import pytest
from opentelemetry import trace

from app.telemetry.tracing import TracingUnavailable, set_up_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize("environ", [{}, {"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}])
def test_tracing_is_off_by_default(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "set_tracer_provider", pytest.fail)
    set_up_tracing(environ)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger", **ENDPOINT}, "expected otlp or none"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT}, "expected http/json"),
    ],
)
def test_an_unsupported_exporter_is_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(TracingUnavailable, match=message):
        set_up_tracing(environ)


def test_missing_packages_are_refused_with_the_name_of_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "app.telemetry.otlp", None)
    with pytest.raises(TracingUnavailable, match="install the extra tracing"):
        set_up_tracing(ENDPOINT)
