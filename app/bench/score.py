"""csrn bench score: scoring by a stored session, compared with the plain formulation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from app.bench.plain import plain_scores
from app.bench.timing import Progress, measure
from app.inference.network import FaceBatch
from model.checkpoint import Checkpoint
from model.classifier import Classifier, QueryScores
from model.errors import CsrnError
from model.support_set import Example, Features
from model.vision.landmarks import LANDMARK_COUNT
from model.vision.patches import PART_COUNT

SHAPES = ((3, 3), (7, 5), (20, 10))
"""Way and shot"""
BATCHES = (1, 4, 16, 64, 256)
MEASURE_FOR_S = 1.0
TOLERANCE = 2e-2
"""Largest difference between the scores of the two: the encoder may compute in bfloat16"""


class ScoresDiffer(CsrnError):
    """The two formulations give different scores, so a comparison of their times means nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreFigures:
    """Median times of one way, shot and batch size."""

    way: int
    shot: int
    batch: int
    us_per_query: float
    """From patches to class scores of one session, as the service's device thread computes them"""
    sessions_us_per_query: float
    """The same if each query belongs to another session"""
    encode_us_per_query: float
    """The part of it from patches to features"""
    queries_per_s: float
    plain_us_per_query: float
    """One query alone by the plain formulation"""
    ratio: float
    """plain_us_per_query / us_per_query"""


def bench_score(
    checkpoint: Checkpoint, encoder_dtype: torch.dtype, progress: Progress = lambda stage, done, total: None
) -> list[ScoreFigures]:
    """Measure all shapes and batch sizes on random faces. Raises: ScoresDiffer."""
    classifier = Classifier(checkpoint, encoder_dtype=encoder_dtype)
    figures: list[ScoreFigures] = []
    for number, (way, shot) in enumerate(SHAPES):
        progress("measuring", number, len(SHAPES))
        figures += _measure_shape(classifier, way, shot)
    progress("measuring", len(SHAPES), len(SHAPES))
    return figures


def _measure_shape(classifier: Classifier, way: int, shot: int) -> Iterator[ScoreFigures]:
    rng, size_px = np.random.default_rng(0), classifier.checkpoint.config.layout.size_px
    count = way * shot + max(BATCHES)
    faces = FaceBatch(
        patches=rng.integers(0, 256, (count, PART_COUNT, size_px, size_px, 3), dtype=np.uint8),
        points=rng.random((count, LANDMARK_COUNT, 2), dtype=np.float32),
    )
    examples, queries = faces[: way * shot], faces[way * shot :]

    def encode(batch: FaceBatch) -> Features:
        return classifier.encode(batch.patches, batch.points)

    def score(batch: FaceBatch) -> list[list[QueryScores]]:
        return classifier.classify([(support, batch.patches, batch.points)])

    def score_sessions(batch: FaceBatch) -> list[list[QueryScores]]:
        each = [(session, batch[n : n + 1]) for n, session in enumerate(sessions[: len(batch)])]
        return classifier.classify([(session, face.patches, face.points) for session, face in each])

    def plain(query: FaceBatch) -> Tensor:
        return plain_scores(classifier, examples, query, way=way).cpu()

    def median_us(work: Callable[[FaceBatch], object], batch: FaceBatch) -> float:
        return measure(lambda: work(batch), for_s=MEASURE_FOR_S).median_ms * 1000 / len(batch)

    labelled = [
        Example(example_id=str(index), label=f"{index // shot:03}", features=features)
        for index, features in enumerate(encode(examples))
    ]
    support, *sessions = (classifier.build_support_set(labelled) for _ in range(1 + max(BATCHES)))
    expected, ((of_query,),) = plain(queries[:1]), score(queries[:1])
    scores = torch.from_numpy(of_query.scores)
    if not torch.allclose(scores, expected, atol=TOLERANCE):
        raise ScoresDiffer(f"scores differ by {float((scores - expected).abs().max()):.4f}")

    plain_us = median_us(plain, queries[:1])
    for size in BATCHES:
        us = median_us(score, queries[:size])
        yield ScoreFigures(
            way=way,
            shot=shot,
            batch=size,
            us_per_query=us,
            sessions_us_per_query=median_us(score_sessions, queries[:size]),
            encode_us_per_query=median_us(encode, queries[:size]),
            queries_per_s=1e6 / us,
            plain_us_per_query=plain_us,
            ratio=plain_us / us,
        )
