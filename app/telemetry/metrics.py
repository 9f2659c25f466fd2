"""The metrics of one application, in a registry of its own."""

from __future__ import annotations

from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from app.inference.observer import FrameOutcome, Observer, Stage

REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counts what happens. What merely is, like the length of a queue, is read at the scrape: state.py."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self._requests = Counter(
            "csrn_requests",
            "Requests answered, by route template; status 499: the client went away before",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "csrn_request_seconds",
            "From a request's arrival to the end of its answer",
            ["method", "route"],
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self._stage_seconds = Histogram(
            "csrn_stage_seconds",
            "Of requests and frames, by stage: support (a set made ready), faces (decoding, landmarks, "
            "patches), network (encoding, scoring); with the wait in the queue",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self._batch_jobs = Histogram(
            "csrn_batch_jobs",
            "Jobs that were worked on together",
            ["queue"],
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self._overloaded = Counter(
            "csrn_overloaded",
            "Requests and frames refused because a queue was full",
            ["queue"],
            registry=self.registry,
        )
        self._faces_not_found = Counter(
            "csrn_faces_not_found", "Images and frames without a face", registry=self.registry
        )
        self._images_unreadable = Counter(
            "csrn_images_unreadable", "Images and frames that could not be decoded", registry=self.registry
        )
        self._frames = Counter(
            "csrn_stream_frames",
            "Frames of streams, by what became of them",
            ["outcome"],
            registry=self.registry,
        )
        # Shown from the start, so that a rate sees the first event too.
        for queue in ("faces", "device"):
            self._overloaded.labels(queue)
            self._batch_jobs.labels(queue)
        for stage in get_args(Stage):
            self._stage_seconds.labels(stage)
        for outcome in get_args(FrameOutcome):
            self._frames.labels(outcome)
        self.requests_in_flight = 0
        self.observer = Observer(
            batch_taken=lambda queue, jobs: self._batch_jobs.labels(queue).observe(jobs),
            queue_was_full=lambda queue: self._overloaded.labels(queue).inc(),
            stage_ended=lambda stage, seconds: self._stage_seconds.labels(stage).observe(seconds),
            face_not_found=self._faces_not_found.inc,
            image_unreadable=self._images_unreadable.inc,
            frames_ended=lambda outcome, frames: self._frames.labels(outcome).inc(frames),
        )

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, status).inc()
        self._request_seconds.labels(method, route).observe(seconds)
