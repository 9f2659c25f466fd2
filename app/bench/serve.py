"""csrn bench serve: the service over HTTP, beside what decoding and finding the face alone cost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image

from app.bench.load import closed_loop, multipart_request
from app.bench.service_process import ServiceProcess
from app.inference.network import FaceBatch
from app.settings import usable_cores
from csrn_client import Client
from model.checkpoint import Checkpoint
from model.classifier import Classifier
from model.support_set import Example, Features
from model.vision.faces import FaceReader
from model.vision.images import decode_image
from model.vision.landmarks import LandmarkFinder

SIZES_PX = ((350, 350), (1920, 1080))
CLIENTS = (1, 4, 16, 64)
SHOTS = 3
BOUND_FOR_S = 3.0

Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bound:
    """What no service can do without, measured alone in the same run."""

    size_px: tuple[int, int]
    face_ms: float
    """JPEG decode and FaceMesh, one thread"""
    network_cpu_ms: float
    """Processor time of encoding and scoring one query"""
    faces_per_s: float
    """JPEG decode and FaceMesh on every core"""
    queries_per_s: float
    """cores / (decode + FaceMesh + network), by processor time"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeFigures:
    """Of one image size and number of clients."""

    size_px: tuple[int, int]
    clients: int
    requests: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int
    service_cores: float
    """Cores that the service kept busy"""
    client_cores: float
    share_of_bound: float
    """requests_per_s / queries_per_s of the bound"""
    p50_to_face: float
    """p50_ms / face_ms of the bound"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServeReport:
    """What csrn bench serve prints."""

    cores: int
    ready_s: float
    """From the start of the process to its being ready"""
    idle_rss_mb: float
    warm_rss_mb: float
    """After the first image size"""
    last_rss_mb: float
    peak_rss_mb: float
    requests: int
    bounds: list[Bound]
    figures: list[ServeFigures]


def bench_serve(
    checkpoint: Checkpoint,
    samples: Path,
    *,
    encoder_dtype: torch.dtype,
    seconds: float,
    progress: Progress = lambda stage, done, total: None,
) -> ServeReport:
    """Measure all image sizes and numbers of clients, each for so many seconds.

    Args: samples, a folder of <label>/<image> files: the first SHOTS of each label teach, the rest ask.
    """
    labels = sorted(folder for folder in samples.iterdir() if folder.is_dir())
    taught = {folder.name: [*sorted(folder.iterdir())[:SHOTS]] for folder in labels}
    asking = [path for folder in labels for path in sorted(folder.iterdir())[SHOTS:]]
    bounds: list[Bound] = []
    figures: list[ServeFigures] = []
    total = len(SIZES_PX) * (len(CLIENTS) + 1)
    with _service() as (service, ready_s):
        process = psutil.Process(service.pid)
        rss = [process.memory_info().rss]
        path = _teach(service, taught)
        for size_px in SIZES_PX:
            images = [_resized(file, size_px) for file in asking]
            progress("measuring", len(bounds) + len(figures), total)
            bound = _bound(Classifier(checkpoint, encoder_dtype=encoder_dtype), images, size_px, taught)
            bounds.append(bound)
            for clients in CLIENTS:
                progress("measuring", len(bounds) + len(figures), total)
                figures.append(_load(service.url + path, process, images, bound, clients, seconds))
            rss.append(process.memory_info().rss)
        progress("measuring", total, total)
        peak_rss = _peak_rss_bytes(service.pid)
    return ServeReport(
        cores=usable_cores(),
        ready_s=ready_s,
        idle_rss_mb=rss[0] / 2**20,
        warm_rss_mb=rss[1] / 2**20,
        last_rss_mb=rss[-1] / 2**20,
        peak_rss_mb=peak_rss / 2**20,
        requests=sum(figure.requests for figure in figures),
        bounds=bounds,
        figures=figures,
    )


def _load(
    url: str,
    process: psutil.Process,
    images: Sequence[bytes],
    bound: Bound,
    clients: int,
    seconds: float,
) -> ServeFigures:
    requests = [multipart_request(url, [image]) for image in images]
    asyncio.run(closed_loop(url, requests, clients=clients, duration_s=min(1.0, seconds)))
    service_s, client_s = _cpu_s(process), time.process_time()
    load = asyncio.run(closed_loop(url, requests, clients=clients, duration_s=seconds))
    service_s, client_s = _cpu_s(process) - service_s, time.process_time() - client_s
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
        failed=load.failed,
        service_cores=service_s / load.wall_s,
        client_cores=client_s / load.wall_s,
        share_of_bound=per_s / bound.queries_per_s,
        p50_to_face=p50 / bound.face_ms,
    )


def _bound(
    classifier: Classifier,
    images: Sequence[bytes],
    size_px: tuple[int, int],
    taught: dict[str, list[Path]],
) -> Bound:
    face_ms, face_cpu_ms = _face_times_ms(images)
    network_cpu_ms = _network_cpu_ms(classifier, images, taught)
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        counts = [*pool.map(lambda _: _faces_found(images, BOUND_FOR_S), range(usable_cores()))]
    return Bound(
        size_px=size_px,
        face_ms=face_ms,
        network_cpu_ms=network_cpu_ms,
        faces_per_s=sum(counts) / BOUND_FOR_S,
        queries_per_s=usable_cores() / (face_cpu_ms + network_cpu_ms) * 1000,
    )


def _face_times_ms(images: Sequence[bytes]) -> tuple[float, float]:
    """Wall time (median) and processor time (mean) of decoding an image and finding its face."""
    finder = LandmarkFinder()
    times_s: list[float] = []
    cpu_s = time.process_time()
    while sum(times_s) < BOUND_FOR_S:
        start = time.perf_counter()
        finder.find(decode_image(images[len(times_s) % len(images)]).pixels)
        times_s.append(time.perf_counter() - start)
    cpu_s = time.process_time() - cpu_s
    finder.close()
    return statistics.median(times_s) * 1000, cpu_s / len(times_s) * 1000


def _faces_found(images: Sequence[bytes], duration_s: float) -> int:
    finder, count = LandmarkFinder(), 0
    until = time.perf_counter() + duration_s
    while time.perf_counter() < until:
        finder.find(decode_image(images[count % len(images)]).pixels)
        count += 1
    finder.close()
    return count


def _network_cpu_ms(classifier: Classifier, images: Sequence[bytes], taught: dict[str, list[Path]]) -> float:
    reader = FaceReader(classifier.checkpoint.config.layout)

    def encoded(image: bytes) -> Features:
        faces = FaceBatch.of([reader.read_single(image)])
        features: Features = classifier.encode(faces.patches, faces.points)[0]
        return features

    support = classifier.build_support_set(
        [
            Example(
                example_id=file.name,
                label=label,
                features=encoded(file.read_bytes()),
            )
            for label, files in taught.items()
            for file in files
        ]
    )
    query = FaceBatch.of(reader.read(images[0]))
    reader.close()
    classifier.score(support, classifier.encode(query.patches, query.points))
    count, start, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < BOUND_FOR_S:
        classifier.score(support, classifier.encode(query.patches, query.points))
        count += 1
    return (time.process_time() - cpu_s) / count * 1000


@contextlib.contextmanager
def _service() -> Iterator[tuple[ServiceProcess, float]]:
    """The service with a store of its own, and the seconds that it took to be ready."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        service = ServiceProcess(
            Path(folder) / "serve.log",
            {"CSRN_STORE": f"sqlite:///{folder}/sessions.sqlite3", "CSRN_API_KEYS": ""},
        )
        service.wait_until_ready()
        try:
            yield service, time.perf_counter() - start
        finally:
            service.stop()


def _teach(service: ServiceProcess, taught: dict[str, list[Path]]) -> str:
    """The path of a new session's classify."""
    with Client(service.url) as client:
        session = client.create_session()
        client.add_support(session.id, [(label, file) for label, files in taught.items() for file in files])
    return f"/v1/sessions/{session.id}/classify"


def _resized(file: Path, size_px: tuple[int, int]) -> bytes:
    """The image as a JPEG of that size, as large as it fits, the rest grey."""
    with Image.open(file) as image:
        scale = min(size_px[0] / image.width, size_px[1] / image.height)
        fitted = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
    canvas = Image.new("RGB", size_px, (128, 128, 128))
    canvas.paste(fitted, ((size_px[0] - fitted.width) // 2, (size_px[1] - fitted.height) // 2))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _peak_rss_bytes(pid: int) -> int:
    (line,) = [entry for entry in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in entry]
    return int(line.split()[1]) * 1024
