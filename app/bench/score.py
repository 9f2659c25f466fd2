"""csrn bench score: what scoring by a stored session costs, beside the plain formulation."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from app.bench.plain import PlainFaces, plain_scores
from app.inference.network import FaceBatch
from model.checkpoint import Checkpoint
from model.classifier import Classifier
from model.errors import CsrnError
from model.support_set import Example, Features
from model.vision.landmarks import LANDMARK_COUNT
from model.vision.patches import PARTS

SHAPES = ((3, 3), (7, 5), (20, 10))
"""Way and shot"""
BATCHES = (1, 4, 16, 64, 256)
MEASURED_FOR_S = 1.0
LEAST_RUNS = 3
TOLERANCE = 2e-2
"""Between the scores of the two: the encoder may compute in bfloat16"""

Progress = Callable[[str, int, int], None]


class ScoresDiffer(CsrnError):
    """The two formulations do not give the same scores, so their times say nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreFigures:
    """Of one way, shot and batch; times are medians."""

    way: int
    shot: int
    batch: int
    us_per_query: float
    """From patches to ranked class scores"""
    encode_us_per_query: float
    """Of it, from patches to features"""
    queries_per_s: float
    plain_us_per_query: float
    """One query alone, as the published code does it"""
    ratio: float
    """plain_us_per_query / us_per_query"""


def bench_score(
    checkpoint: Checkpoint, encoder_dtype: torch.dtype, progress: Progress = lambda stage, done, total: None
) -> list[ScoreFigures]:
    """Measure all shapes and batches. Raises: ScoresDiffer."""
    figures: list[ScoreFigures] = []
    total = len(SHAPES) * (len(BATCHES) + 1)
    for way, shot in SHAPES:
        bench = _Bench(checkpoint, encoder_dtype, way, shot)
        progress("measuring", len(figures) + len(figures) // len(BATCHES), total)
        plain_us = bench.plain_us()
        for batch in BATCHES:
            figures.append(bench.measure(batch, plain_us))
            progress("measuring", len(figures) + -(-len(figures) // len(BATCHES)), total)
    return figures


class _Bench:
    def __init__(self, checkpoint: Checkpoint, encoder_dtype: torch.dtype, way: int, shot: int) -> None:
        self._way, self._shot = way, shot
        self._classifier = Classifier(checkpoint, encoder_dtype=encoder_dtype)
        rng = np.random.default_rng(0)
        count, size_px = way * shot + max(BATCHES), checkpoint.config.layout.size_px
        faces = FaceBatch(
            patches=rng.integers(0, 256, (count, len(PARTS), size_px, size_px, 3), dtype=np.uint8),
            points=rng.random((count, LANDMARK_COUNT, 2), dtype=np.float32),
        )
        self._examples, self._queries = faces[: way * shot], faces[way * shot :]
        self._support = self._classifier.build_support_set(
            [
                Example(example_id=str(index), label=f"{index // shot:03}", features=of_example)
                for index, of_example in enumerate(self._encode(self._examples))
            ]
        )

    def _encode(self, faces: FaceBatch) -> Features:
        return self._classifier.encode(faces.patches, faces.points)

    def plain_us(self) -> float:
        support, query = self._on_device(self._examples), self._on_device(self._queries[:1])

        def scores_of_one() -> torch.Tensor:
            return plain_scores(self._classifier, support, query, way=self._way)

        expected = scores_of_one()
        (given,) = self._classifier.score(self._support, self._encode(self._queries[:1]))
        scores = torch.tensor([score.score for score in sorted(given, key=lambda score: score.label)])
        if not torch.allclose(scores, expected.cpu(), atol=TOLERANCE):
            raise ScoresDiffer(f"scores differ by {float((scores - expected.cpu()).abs().max()):.4f}")
        return self._median_us(lambda: scores_of_one().tolist())

    def _on_device(self, faces: FaceBatch) -> PlainFaces:
        device = self._classifier.device
        pixels = torch.from_numpy(faces.patches).permute(0, 1, 4, 2, 3).to(device).float() / 255
        return PlainFaces(pixels=pixels, points=torch.from_numpy(faces.points).to(device))

    def measure(self, batch: int, plain_us: float) -> ScoreFigures:
        queries, classifier = self._queries[:batch], self._classifier
        encode_us = self._median_us(lambda: self._encode(queries)) / batch
        us = self._median_us(lambda: classifier.score(self._support, self._encode(queries))) / batch
        return ScoreFigures(
            way=self._way,
            shot=self._shot,
            batch=batch,
            us_per_query=us,
            encode_us_per_query=encode_us,
            queries_per_s=1e6 / us,
            plain_us_per_query=plain_us,
            ratio=plain_us / us,
        )

    @staticmethod
    def _median_us(work: Callable[[], object]) -> float:
        work()
        times_s: list[float] = []
        while len(times_s) < LEAST_RUNS or sum(times_s) < MEASURED_FOR_S:
            start = time.perf_counter()
            work()
            times_s.append(time.perf_counter() - start)
        return statistics.median(times_s) * 1e6
