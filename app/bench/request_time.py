"""Where the time of a request goes: each part alone, and the service without faces and network."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
import psutil

from app.bench.load import closed_loop, multipart_request, stages_ms
from app.bench.timing import measure
from app.inference.network import FaceBatch
from model.classifier import Classifier
from model.support_set import Example, SupportSet
from model.vision.faces import FaceReader, FoundFaces
from model.vision.images import decode_image
from model.vision.landmarks import LandmarkFinder

ALONE_FOR_S = 1.0
MANY_CLIENTS = 16
MANY_IMAGES = 64

Support = Sequence[tuple[str, Path]]
"""Labels and image files"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpFigures:
    """Requests to the service of app.bench.fake_inference, which spends no time on faces and network."""

    p50_ms: float
    """Median latency of one client, less the stages that the service reports"""
    cpu_ms: float
    """Processor time of one request, while one client sends requests"""
    cpu_ms_of_many: float
    """Processor time of one request, while 16 clients send requests"""
    cpu_to_face: float
    """cpu_ms_of_many / the processor time of JPEG decode and FaceMesh"""
    large_answer_ms: float
    """Median time of an answer for 64 images, each with 8 faces and 64 classes"""
    longest_pause_ms: float
    """The longest latency of /livez meanwhile: the event loop was busy for at most this time"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimePart:
    """A part of the median time of one request."""

    name: str
    ms: float
    share: float


def measure_http(
    url: str, process: psutil.Process, images: Sequence[bytes], *, face_cpu_ms: float, seconds: float
) -> HttpFigures:
    """Measure a service with fake inference. Args: url, for queries to a session."""
    requests = [multipart_request(url, [image]) for image in images]
    asyncio.run(closed_loop(url, requests, clients=MANY_CLIENTS, duration_s=min(1.0, seconds)))

    def cpu_ms(clients: int) -> tuple[float, float]:
        """Processor time of one request, and its median latency less the stages that the service reports."""
        cpu_s = sum(process.cpu_times()[:2])
        load = asyncio.run(closed_loop(url, requests, clients=clients, duration_s=seconds))
        cpu_s = sum(process.cpu_times()[:2]) - cpu_s
        outside_ms = np.median(load.latencies_ms) - stages_ms(load)["total"]
        return cpu_s / len(load.latencies_ms) * 1000, float(outside_ms)

    one_ms, p50_ms = cpu_ms(1)
    many_ms, _ = cpu_ms(MANY_CLIENTS)
    large_ms, pause_ms = asyncio.run(_large_answers(url, images, seconds))
    return HttpFigures(
        p50_ms=p50_ms,
        cpu_ms=one_ms,
        cpu_ms_of_many=many_ms,
        cpu_to_face=many_ms / face_cpu_ms,
        large_answer_ms=large_ms,
        longest_pause_ms=pause_ms,
    )


async def _large_answers(url: str, images: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """The median time of a large answer, and the longest time of /livez meanwhile."""
    large = multipart_request(url, [*islice(cycle(images), MANY_IMAGES)], {"all_faces": "true"})
    probe = b"GET /livez HTTP/1.1\r\nhost: %s\r\n\r\n" % httpx.URL(url).netloc
    answers, probes = await asyncio.gather(
        closed_loop(url, [large], clients=1, duration_s=seconds),
        closed_loop(url, [probe], clients=1, duration_s=seconds),
    )
    return float(np.median(answers.latencies_ms)), max(probes.latencies_ms)


def time_parts(
    classifier: Classifier,
    images: Sequence[bytes],
    support: Support,
    *,
    p50_ms: float,
    stages: Mapping[str, float],
    http_ms: float,
) -> list[TimePart]:
    """The parts of the median time of one request, which add up to it.

    Args: p50_ms, the median time; stages, the median of each stage that the service reports, in ms; http_ms,
        the time outside of these stages, measured without faces and network.
    """
    layout, finder, queries = classifier.checkpoint.config.layout, LandmarkFinder(), cycle(images)
    decoded = [decode_image(image) for image in images]
    pixels = cycle([image.pixels for image in decoded])
    found = cycle([FoundFaces(image=image, landmarks=finder.find(image.pixels)) for image in decoded])
    support_set, query = network_inputs(classifier, images[0], support)
    features = classifier.encode(query.patches, query.points)

    def cut_patches() -> None:
        faces = next(found)
        for landmarks in faces.landmarks[:1]:
            faces.face(landmarks, layout)

    alone = {
        "decode": lambda: decode_image(next(queries)),
        "FaceMesh": lambda: finder.find(next(pixels)),
        "patches": cut_patches,
        "encoder": lambda: classifier.encode(query.patches, query.points),
        "scoring": lambda: classifier.score_all([(support_set, features)]),
    }
    ms = {name: measure(work, for_s=ALONE_FOR_S).median_ms for name, work in alone.items()}
    finder.close()
    parts = {
        "HTTP, multipart, checks, JSON": http_ms,
        "store, support set": stages["support"],
        "decode": ms["decode"],
        "FaceMesh": ms["FaceMesh"],
        "patches": ms["patches"],
        "faces: queue, threads, colder caches": stages["faces"]
        - ms["decode"]
        - ms["FaceMesh"]
        - ms["patches"],
        "network: encoder": ms["encoder"],
        "network: scoring": ms["scoring"],
        "network: queue, threads, colder caches": stages["network"] - ms["encoder"] - ms["scoring"],
    }
    parts["remainder"] = p50_ms - sum(parts.values())
    return [TimePart(name=name, ms=part_ms, share=part_ms / p50_ms) for name, part_ms in parts.items()]


def network_inputs(classifier: Classifier, image: bytes, support: Support) -> tuple[SupportSet, FaceBatch]:
    """The support set, and the only face of an image as a query."""
    reader = FaceReader(classifier.checkpoint.config.layout)
    faces = FaceBatch.of([reader.read_single(file.read_bytes()) for _, file in support])
    query = FaceBatch.of([reader.read_single(image)])
    reader.close()
    encoded = classifier.encode(faces.patches, faces.points)
    examples = [
        Example(example_id=file.name, label=label, features=features)
        for (label, file), features in zip(support, encoded, strict=True)
    ]
    return classifier.build_support_set(examples), query
