"""What is read when /metrics is asked for, and how it is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """The service at one moment."""

    ready: bool
    requests_in_flight: int
    queued_work: Mapping[str, int]
    """By queue"""
    sessions: int | None
    """None where the store does not answer"""
    support_cache_bytes: int
    support_cache_sets: int
    support_cache_misses: int
    device_memory_bytes: int
    streams_open: int


def exposition(registry: CollectorRegistry, state: State) -> bytes:
    """All metrics in the Prometheus text format."""
    return generate_latest(_Scrape(registry, state))


class _Scrape(Collector):
    def __init__(self, registry: CollectorRegistry, state: State) -> None:
        self._registry, self._state = registry, state

    def collect(self) -> Iterator[Metric]:
        yield from map(_without_creation_times, self._registry.collect())
        yield from _families(self._state)


def _without_creation_times(metric: Metric) -> Metric:
    """They would be a series more for each; the library has only a global switch for them."""
    metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
    return metric


def _families(state: State) -> Iterator[Metric]:
    def gauge(name: str, documentation: str, value: float | None) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, documentation)
        if value is not None:
            family.add_metric([], value)
        return family

    yield gauge("csrn_ready", "1 where /readyz would say so", state.ready)
    yield gauge("csrn_requests_in_flight", "Requests being answered", state.requests_in_flight)
    queued = GaugeMetricFamily(
        "csrn_queued_work", "Work that waits: faces: images; device: faces to encode", labels=["queue"]
    )
    for queue, work in state.queued_work.items():
        queued.add_metric([queue], work)
    yield queued
    yield gauge("csrn_sessions", "Sessions in the store, of all replicas", state.sessions)
    yield gauge("csrn_support_cache_bytes", "Of support sets kept ready", state.support_cache_bytes)
    yield gauge("csrn_support_cache_sets", "Support sets kept ready", state.support_cache_sets)
    misses = CounterMetricFamily("csrn_support_cache_misses", "Support sets that had to be made")
    misses.add_metric([], state.support_cache_misses)
    yield misses
    yield gauge(
        "csrn_device_memory_bytes",
        "Of the GPU, held by this process; 0 without one",
        state.device_memory_bytes,
    )
    yield gauge("csrn_streams_open", "Streams that are open", state.streams_open)
