"""A service with fake faces and scores, which cost no time, to show what the rest of a request costs."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

import numpy as np

from app.inference.faces import FacePool, Found
from app.inference.fairness import Lane
from app.inference.network import Network
from model.classifier import QueryScores
from model.support_set import SupportSet
from model.vision.faces import Box, Face
from model.vision.landmarks import LANDMARK_COUNT, Landmarks
from model.vision.patches import PART_COUNT

CSRN_WITH_FAKES = (sys.executable, "-c", "from app.bench import fake_inference; fake_inference.run_csrn()")
"""The csrn command with this service"""
ALL_FACES, ALL_CLASSES = 8, 64
"""With all_faces, each image shows this many faces, and each face has scores of this many classes"""
FACE = Face(
    box_px=Box(x_min=80.4, y_min=90.7, x_max=240.6, y_max=300.8),
    landmarks=Landmarks(
        points_px=np.zeros((LANDMARK_COUNT, 2), dtype=np.float32),
        depths_px=np.zeros(LANDMARK_COUNT, dtype=np.float32),
        found_after_padding=False,
    ),
    patches=np.zeros((PART_COUNT, 1, 1, 3), dtype=np.uint8),
)


async def find_faces(
    _: FacePool, images: Sequence[bytes], *, all_faces: bool = False, lane: Lane = Lane()
) -> list[Found]:
    """Replaces FacePool.find_faces: finds the same face in every image."""
    return [[FACE] * (ALL_FACES if all_faces else 1) for _ in images]


async def score(
    network: Network, faces: Sequence[Face], support: SupportSet, *, lane: Lane = Lane()
) -> list[QueryScores]:
    """Replaces Network.score: gives every face the same scores."""
    names = network.classifier.part_names
    labels = support.labels
    if len(faces) >= ALL_FACES:
        labels = tuple(f"class {number}" for number in range(ALL_CLASSES))
    rng = np.random.default_rng(0)
    scores = QueryScores(
        labels=labels,
        example_ids=support.example_ids,
        part_names=names,
        scores=rng.random(len(labels), dtype=np.float32),
        parts=rng.random((len(labels), len(names)), dtype=np.float32),
        nearest=np.zeros(len(labels), dtype=np.int64),
    )
    return [scores] * len(faces)


def run_csrn() -> None:
    """Run csrn in this process, with fakes for the faces and the scores of queries."""
    FacePool.find_faces = find_faces  # type: ignore[assignment, method-assign]
    Network.score = score  # type: ignore[assignment, method-assign]
    runpy.run_module("app.cli", run_name="__main__")
