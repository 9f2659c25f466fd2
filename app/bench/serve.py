"""csrn bench serve: the service over HTTP, compared with the cost of its parts alone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import io
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps

from app.bench import fake_inference
from app.bench.load import closed_loop, multipart_request, stages_ms
from app.bench.request_time import HttpFigures, Support, TimePart, measure_http, network_inputs, time_parts
from app.bench.service_process import CSRN, ServiceProcess
from app.bench.timing import Progress, Timing, measure
from app.settings import usable_cores
from csrn_client import Client
from model.checkpoint import Checkpoint
from model.classifier import Classifier
from model.vision.images import decode_image
from model.vision.landmarks import LandmarkFinder

SIZES_PX = ((350, 350), (1920, 1080))
CLIENTS = (1, 4, 16, 64)
SHOTS = 3
BOUND_FOR_S = 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """The cost of the parts that no service can do without, measured alone in the same run."""

    size_px: tuple[int, int]
    face_ms: float
    """JPEG decode and FaceMesh on one thread"""
    face_cpu_ms: float
    """Its processor time"""
    network_cpu_ms: float
    """Processor time of encoding and scoring one query"""
    faces_per_s: float
    """JPEG decode and FaceMesh on every core"""
    queries_per_s: float
    """cores / (decode + FaceMesh + network), by processor time"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeFigures:
    """Measurements of one image size and number of clients."""

    size_px: tuple[int, int]
    clients: int
    requests: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p99_to_p50: float
    failed: int
    service_cores: float
    """Cores that the service kept busy"""
    client_cores: float
    share_of_bound: float
    """requests_per_s / queries_per_s of the bound"""
    p50_to_face: float
    """p50_ms / face_ms of the bound"""
    stages_ms: dict[str, float]
    """Median of each stage that the service reports"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeReport:
    """The result of csrn bench serve."""

    cores: int
    ready_s: float
    """From the start of the process until it is ready"""
    idle_rss_mb: float
    warm_rss_mb: float
    """After the first image size"""
    last_rss_mb: float
    peak_rss_mb: float
    requests: int
    bounds: list[Bound]
    figures: list[ServeFigures]
    http: HttpFigures
    parts: list[TimePart]
    """Of the median time of a request of one client, with the first image size"""


def bench_serve(
    checkpoint: Checkpoint,
    samples: Path,
    *,
    encoder_dtype: torch.dtype,
    seconds: float,
    progress: Progress = lambda stage, done, total: None,
) -> ServeReport:
    """Measure each image size with each number of clients for some seconds.

    Args: samples, a folder of <label>/<image> files: the first SHOTS of each label are the support set, the
        others are the queries.
    """
    folders = sorted(folder for folder in samples.iterdir() if folder.is_dir())
    support = [(folder.name, path) for folder in folders for path in sorted(folder.iterdir())[:SHOTS]]
    queries = [path for folder in folders for path in sorted(folder.iterdir())[SHOTS:]]
    classifier = Classifier(checkpoint, encoder_dtype=encoder_dtype)
    bounds: list[Bound] = []
    figures: list[ServeFigures] = []
    start = time.perf_counter()
    with _service() as service:
        ready_s = time.perf_counter() - start
        process = psutil.Process(service.pid)
        rss_mb = [process.memory_info().rss / 2**20]
        url = _classify_url(service, support)
        for size_px in SIZES_PX:
            images = [_resized(file, size_px) for file in queries]
            bounds.append(_bound(classifier, images, size_px, support))
            for clients in CLIENTS:
                figures.append(_load(url, process, images, bounds[-1], clients, seconds))
                progress("measuring", len(figures), len(SIZES_PX) * len(CLIENTS))
            rss_mb.append(process.memory_info().rss / 2**20)
        peak_kb = re.findall(r"VmHWM:\s*(\d+)", Path(f"/proc/{service.pid}/status").read_text())[0]
    small = [_resized(file, SIZES_PX[0]) for file in queries]
    with _service(csrn=fake_inference.CSRN_WITH_FAKES) as service:
        http = measure_http(
            _classify_url(service, support),
            psutil.Process(service.pid),
            small,
            face_cpu_ms=bounds[0].face_cpu_ms,
            seconds=seconds,
        )
    alone = figures[0]
    parts = time_parts(
        classifier, small, support, p50_ms=alone.p50_ms, stages=alone.stages_ms, http_ms=http.p50_ms
    )
    return ServeReport(
        cores=usable_cores(),
        ready_s=ready_s,
        idle_rss_mb=rss_mb[0],
        warm_rss_mb=rss_mb[1],
        last_rss_mb=rss_mb[-1],
        peak_rss_mb=int(peak_kb) / 2**10,
        requests=sum(figure.requests for figure in figures),
        bounds=bounds,
        figures=figures,
        http=http,
        parts=parts,
    )


@contextlib.contextmanager
def _service(csrn: Sequence[str] = CSRN) -> Iterator[ServiceProcess]:
    """A service with a new store and without keys. Args: csrn, the command that starts it."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"CSRN_STORE": f"sqlite:///{folder}/sessions.sqlite3", "CSRN_API_KEYS": ""}
        with ServiceProcess(Path(folder) / "serve.log", env, csrn=csrn) as service:
            yield service


def _load(
    url: str, process: psutil.Process, images: Sequence[bytes], bound: Bound, clients: int, seconds: float
) -> ServeFigures:
    requests = [multipart_request(url, [image]) for image in images]
    asyncio.run(closed_loop(url, requests, clients=clients, duration_s=min(1.0, seconds)))
    service_s, client_s = sum(process.cpu_times()[:2]), time.process_time()
    load = asyncio.run(closed_loop(url, requests, clients=clients, duration_s=seconds))
    service_s, client_s = sum(process.cpu_times()[:2]) - service_s, time.process_time() - client_s
    p50, p95, p99 = np.percentile(load.latencies_ms or [float("nan")], (50, 95, 99)).tolist()
    per_s = len(load.latencies_ms) / load.wall_s
    return ServeFigures(
        size_px=bound.size_px,
        clients=clients,
        requests=len(load.latencies_ms),
        requests_per_s=per_s,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        p99_to_p50=p99 / p50,
        failed=load.failed,
        service_cores=service_s / load.wall_s,
        client_cores=client_s / load.wall_s,
        share_of_bound=per_s / bound.queries_per_s,
        p50_to_face=p50 / bound.face_ms,
        stages_ms=stages_ms(load),
    )


def _bound(
    classifier: Classifier, images: Sequence[bytes], size_px: tuple[int, int], support: Support
) -> Bound:
    face, network_cpu_ms = _time_faces(images), _network_cpu_ms(classifier, images[0], support)
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        on_each_core = pool.map(_time_faces, [images] * usable_cores())
        calls = sum(timing.calls for timing in on_each_core)
    return Bound(
        size_px=size_px,
        face_ms=face.median_ms,
        face_cpu_ms=face.cpu_ms,
        network_cpu_ms=network_cpu_ms,
        faces_per_s=calls / BOUND_FOR_S,
        queries_per_s=usable_cores() / (face.cpu_ms + network_cpu_ms) * 1000,
    )


def _time_faces(images: Sequence[bytes]) -> Timing:
    """Decoding an image and finding its face."""
    finder, queries = LandmarkFinder(), cycle(images)
    timing = measure(lambda: finder.find(decode_image(next(queries)).pixels), for_s=BOUND_FOR_S)
    finder.close()
    return timing


def _network_cpu_ms(classifier: Classifier, image: bytes, support: Support) -> float:
    """Processor time of encoding and scoring one query."""
    support_set, query = network_inputs(classifier, image, support)
    return measure(
        lambda: classifier.score(support_set, classifier.encode(query.patches, query.points)),
        for_s=BOUND_FOR_S,
    ).cpu_ms


def _classify_url(service: ServiceProcess, support: Support) -> str:
    """The address for queries to a new session with these examples."""
    with Client(service.url) as client:
        session = client.create_session()
        client.add_support(session.id, support)
    return f"{service.url}/v1/sessions/{session.id}/classify"


def _resized(file: Path, size_px: tuple[int, int]) -> bytes:
    """The image as a JPEG of this size, scaled to fit, on a grey background."""
    buffer = io.BytesIO()
    with Image.open(file) as image:
        fitted = ImageOps.pad(image.convert("RGB"), size_px, color=(128, 128, 128))
    fitted.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
