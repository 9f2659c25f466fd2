"""The Prometheus metrics of one application, in a registry of its own."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import get_args

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from app.access.concurrency import ConcurrencyLimit
from app.inference.engine import Engine
from app.inference.observer import FrameOutcome, Observer, Stage
from app.inference.support_cache import SupportCache
from app.telemetry.tracing import record_stage

MEDIA_TYPE = prometheus_client.CONTENT_TYPE_LATEST
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics(Observer):
    """Counts HTTP requests and the work of the engine."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.registry)
        gauge = functools.partial(Gauge, registry=self.registry)
        counter = functools.partial(Counter, registry=self.registry)
        histogram = functools.partial(Histogram, registry=self.registry)
        self._ready = gauge("csrn_ready", "1 if the worker threads work and the store answers and has room")
        self._sessions = gauge("csrn_sessions", "Sessions in the shared store; NaN if it does not answer")
        self._requests = counter(
            "http_requests", "Responses by route template", ["method", "handler", "status"]
        )
        self._request_seconds = histogram(
            "http_request_duration_seconds",
            "Time from the arrival of a request to the end of its response",
            ["method", "handler"],
            buckets=REQUEST_BUCKETS_S,
        )
        self._stage_seconds = histogram(
            "csrn_stage_seconds",
            "Time of requests and frames in each stage, including the wait in the queue",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
        )
        self._batch_jobs = histogram("csrn_batch_jobs", "Jobs per batch", ["queue"], buckets=BATCH_BUCKETS)
        self._overloaded = counter(
            "csrn_overloaded", "Requests and frames refused because a queue was full", ["queue"]
        )
        self._faces_not_found = counter("csrn_faces_not_found", "Images and frames without a face")
        self._images_unreadable = counter("csrn_images_unreadable", "Images and frames not decodable")
        self._frames = counter("csrn_stream_frames", "Frames of streams, by outcome", ["outcome"])
        # A series that exists from the start lets rate() see its first event.
        for queue in ("faces", "device"):
            self._overloaded.labels(queue)
            self._batch_jobs.labels(queue)
        for stage in get_args(Stage):
            self._stage_seconds.labels(stage)
        for outcome in get_args(FrameOutcome):
            self._frames.labels(outcome)

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request with a usual method: each invented one would add series that never go away."""
        if method in METHODS:
            self._requests.labels(method, route, status).inc()
            self._request_seconds.labels(method, route).observe(seconds)

    def watch(self, engine: Engine, supports: SupportCache, streams: ConcurrencyLimit) -> None:
        """Read the state of the engine, the support cache and the streams at every scrape."""
        self.registry.register(_Misses(supports))
        gauge = functools.partial(Gauge, registry=self.registry)
        queued = gauge(
            "csrn_queued_work",
            "Work that waits in a queue: images (faces) or faces to encode (device)",
            ["queue"],
        )
        queued.labels("faces").set_function(lambda: engine.queued_work["faces"])
        queued.labels("device").set_function(lambda: engine.queued_work["device"])
        for name, documentation, value in (
            ("csrn_support_cache_bytes", "Size of the cached support sets", lambda: supports.size_bytes),
            ("csrn_support_cache_sets", "Support sets in the cache", lambda: len(supports)),
            (
                "csrn_device_memory_bytes",
                "GPU memory that this process holds; 0 without a GPU",
                lambda: engine.device_memory_bytes,
            ),
            ("csrn_streams_open", "Open streams", lambda: streams.count),
        ):
            gauge(name, documentation).set_function(value)

    def exposition(self, *, ready: bool, sessions: int | None) -> bytes:
        """All metrics in the Prometheus text format.

        Args: sessions, the number of sessions in the store, or None if it does not answer.
        """
        self._ready.set(ready)
        self._sessions.set(math.nan if sessions is None else sessions)
        return prometheus_client.generate_latest(self.registry)

    def batch_taken(self, queue: str, jobs: int) -> None:
        self._batch_jobs.labels(queue).observe(jobs)

    def queue_was_full(self, queue: str) -> None:
        self._overloaded.labels(queue).inc()

    def stage_ended(self, stage: Stage, seconds: float) -> None:
        self._stage_seconds.labels(stage).observe(seconds)
        record_stage(stage, seconds)

    def face_not_found(self) -> None:
        self._faces_not_found.inc()

    def image_unreadable(self) -> None:
        self._images_unreadable.inc()

    def frames_ended(self, outcome: FrameOutcome, frames: int) -> None:
        self._frames.labels(outcome).inc(frames)


class _Misses(Collector):
    """The counter that the support cache keeps itself."""

    def __init__(self, supports: SupportCache) -> None:
        self._supports = supports

    def collect(self) -> Iterator[Metric]:
        name, documentation = "csrn_support_cache_misses", "Support sets that were not in the cache"
        yield CounterMetricFamily(name, documentation, value=self._supports.misses)
