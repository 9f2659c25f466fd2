"""When traces are made; tests/e2e/test_observability.py looks at those that arrive."""

from __future__ import annotations

import sys
import threading

import pytest
from opentelemetry.sdk.trace import TracerProvider

from app.telemetry.tracing import Tracing, TracingImpossible, start_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    "environ",
    [{}, {"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, {"OTEL_SDK_DISABLED": "true", **ENDPOINT}],
)
def test_nothing_is_traced_unless_it_is_asked_for(environ: dict[str, str]) -> None:
    assert start_tracing(environ) is None


@pytest.mark.parametrize(
    "environ",
    [
        ENDPOINT,
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
        {"OTEL_TRACES_EXPORTER": "console"},
    ],
)
def test_the_standard_variables_ask_for_traces(environ: dict[str, str]) -> None:
    tracing = start_tracing(environ)
    assert tracing is not None
    tracing.close()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "jaeger"}, "expected otlp, console or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/json"),
    ],
)
def test_what_cannot_be_made_is_refused(environ: dict[str, str], told: str) -> None:
    with pytest.raises(TracingImpossible, match=told):
        start_tracing(environ)


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(TracingImpossible, match=r"docs/observability.md"):
        start_tracing(ENDPOINT)


def test_the_end_does_not_wait_for_a_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.telemetry.tracing.LAST_TRACES_S", 0.05)
    provider, answered = TracerProvider(shutdown_on_exit=False), threading.Event()
    monkeypatch.setattr(provider, "shutdown", answered.wait)
    Tracing(provider).close()
    assert "last traces" in {thread.name for thread in threading.enumerate()}, "still trying"
    answered.set()
