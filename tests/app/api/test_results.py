from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from app.api.results import MAX_SCORES_ON_LOOP, results_json
from app.inference.engine import QueryOutcome, ScoredFace, Upload
from csrn_client.schemas import Results
from model.checkpoint import Checkpoint
from model.classifier import ClassScore, QueryScores
from model.errors import ImageUnreadable
from model.vision.faces import Box, Face
from model.vision.landmarks import LANDMARK_COUNT, Landmarks
from model.vision.patches import PART_COUNT

pytestmark = pytest.mark.anyio
PARTS = ("face", "eyes", "lips", "prototype", "cosine")
RNG = np.random.default_rng(0)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def scores(way: int, kind: type[QueryScores] = QueryScores) -> QueryScores:
    return kind(
        labels=tuple(f"Klasse {number}: „ä“" for number in range(way)),
        example_ids=("one", "two"),
        part_names=PARTS,
        scores=RNG.random(way, dtype=np.float32),
        parts=RNG.random((way, len(PARTS)), dtype=np.float32),
        nearest=RNG.integers(0, 2, way),
    )


def scored(query_scores: QueryScores | None) -> ScoredFace:
    landmarks = Landmarks(
        points_px=RNG.random((LANDMARK_COUNT, 2), dtype=np.float32) * 100,
        depths_px=np.zeros(LANDMARK_COUNT, dtype=np.float32),
        found_after_padding=False,
    )
    face = Face(
        # A side that is clipped to the image is an int.
        box_px=Box(x_min=1.26, y_min=2, x_max=30.04, y_max=40),
        landmarks=landmarks,
        patches=np.zeros((PART_COUNT, 1, 1, 3), dtype=np.uint8),
    )
    return ScoredFace(face=face, scores=query_scores)


async def answer(
    checkpoint: Checkpoint,
    outcomes: list[QueryOutcome],
    *,
    unknown_below: float = 0.5,
    regions: bool = False,
) -> bytes:
    uploads = [Upload(filename=f'"{index}".jpg', data=b"") for index in range(len(outcomes))]
    return await results_json(
        uploads,
        outcomes,
        checkpoint=checkpoint,
        unknown_below=unknown_below,
        regions=regions,
        timings_ms={"total": 1.25},
    )


@pytest.mark.parametrize("regions", [False, True])
async def test_the_json_is_what_the_documented_models_write(checkpoint: Checkpoint, regions: bool) -> None:
    outcomes: list[QueryOutcome] = [
        [scored(scores(3)), scored(scores(1)), scored(None)],
        [],
        ImageUnreadable("not an image"),
    ]
    written = await answer(checkpoint, outcomes, regions=regions)
    read = Results.model_validate_json(written)
    assert read.model_dump_json(exclude_unset=True).encode() == written
    faces = read.results[0].faces
    assert [len(face.scores) for face in faces] == [3, 1, 0]
    assert [face.margin is None for face in faces] == [False, True, True]
    assert all((face.regions is not None) == regions for face in faces)
    assert vars(faces[0].box) == {"x_min": 1.3, "y_min": 2, "x_max": 30, "y_max": 40}
    assert read.results[2].error is not None


async def test_no_class_is_predicted_below_the_threshold(checkpoint: Checkpoint) -> None:
    outcomes: list[QueryOutcome] = [[scored(scores(4))]]
    (face,) = Results.model_validate_json(await answer(checkpoint, outcomes)).results[0].faces
    assert face.scores == sorted(face.scores, key=lambda entry: -entry.score)
    best, second = face.scores[0].score, face.scores[1].score
    assert face.margin == best - second
    for threshold, predicted in ((best, face.scores[0].label), (best + 1e-6, None)):
        again = Results.model_validate_json(await answer(checkpoint, outcomes, unknown_below=threshold))
        assert again.results[0].faces[0].predicted == predicted


class BlockedScores(QueryScores):
    """Scores that are ranked only when the event loop has run meanwhile."""

    loop_ran = threading.Event()

    def ranked(self) -> list[ClassScore]:
        assert self.loop_ran.wait(20)
        return super().ranked()


async def test_the_event_loop_runs_while_a_large_answer_is_built(checkpoint: Checkpoint) -> None:
    outcomes: list[QueryOutcome] = [[scored(scores(MAX_SCORES_ON_LOOP + 1, BlockedScores))]]
    building = asyncio.create_task(answer(checkpoint, outcomes))
    await asyncio.sleep(0)
    BlockedScores.loop_ran.set()
    (face,) = Results.model_validate_json(await building).results[0].faces
    assert len(face.scores) == MAX_SCORES_ON_LOOP + 1


async def test_a_small_answer_needs_no_other_thread(checkpoint: Checkpoint) -> None:
    building = answer(checkpoint, [[scored(scores(MAX_SCORES_ON_LOOP))]])
    with pytest.raises(StopIteration):  # it ends without waiting
        building.send(None)
