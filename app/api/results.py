"""The results of queries as JSON, without pydantic models: a response may contain thousands of scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic_core import to_json

from app.api.problems import public_detail
from app.api.responses import rounded_box
from app.inference.engine import QueryOutcome, ScoredFace, Upload
from model.checkpoint import Checkpoint
from model.errors import CsrnError
from model.vision.patches import PARTS, PatchLayout

MAX_SCORES_ON_LOOP = 512
"""The most class scores of a response that is built on the event loop, which takes about a millisecond"""


async def results_json(
    uploads: Sequence[Upload],
    outcomes: Sequence[QueryOutcome],
    *,
    checkpoint: Checkpoint,
    unknown_below: float,
    top_k: int | None = None,
    regions: bool = False,
    timings_ms: dict[str, float],
) -> bytes:
    """A Results object as JSON. A large one is built on another thread, so that other requests do not wait.

    Args: unknown_below, the threshold to apply; top_k, how many scores of a face are returned, None for all;
        regions, whether to add the corners of the patches.
    """
    layout = checkpoint.config.layout if regions else None

    def build() -> bytes:
        # One result at a time, because to_json holds Python's lock until it returns.
        results = [
            to_json(
                result_members(index, upload.filename, outcome, unknown_below, top_k=top_k, layout=layout)
            )
            for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True))
        ]
        others = {
            "model": {"weights_sha256": checkpoint.sha256},
            "unknown_below": unknown_below,
            "timings_ms": timings_ms,
        }
        return b'{"results":[' + b",".join(results) + b"]," + to_json(others).removeprefix(b"{")

    if sum(map(_count_scores, outcomes)) <= MAX_SCORES_ON_LOOP:
        return build()
    return await asyncio.to_thread(build)


def result_members(
    index: int,
    filename: str | None,
    outcome: QueryOutcome,
    unknown_below: float | None,
    *,
    top_k: int | None = None,
    layout: PatchLayout | None = None,
) -> dict[str, Any]:
    """The members of the Result of one image.

    Args: unknown_below, None if no face has scores; top_k, how many scores of a face are returned, None for
        all; layout, given if the client asks for regions.
    """
    if isinstance(outcome, CsrnError):
        error = {"code": outcome.code, "detail": public_detail(outcome)}
        return {"index": index, "filename": filename, "faces": [], "error": error}
    found = [_face(face, unknown_below, top_k, layout) for face in outcome]
    return {"index": index, "filename": filename, "faces": found}


def _face(
    face: ScoredFace, unknown_below: float | None, top_k: int | None, layout: PatchLayout | None
) -> dict[str, Any]:
    members: dict[str, Any] = {"box": rounded_box(face.face.box_px)}
    if layout is not None:
        members["regions"] = {
            part: [(round(x, 1), round(y, 1)) for x, y in region.corners_px]
            for part, region in zip(PARTS, layout.regions(face.face.landmarks.points_px), strict=True)
        }
    scores = [] if face.scores is None else face.scores.ranked()
    known = scores and unknown_below is not None and scores[0].score >= unknown_below
    members["predicted"] = scores[0].label if known else None
    members["scores"] = [
        {"label": label, "score": score, "parts": parts, "nearest_example_id": nearest}
        for label, score, parts, nearest in scores[:top_k]
    ]
    members["margin"] = scores[0].score - scores[1].score if len(scores) > 1 else None
    return members


def _count_scores(outcome: QueryOutcome) -> int:
    if isinstance(outcome, CsrnError):
        return 0
    return sum(len(face.scores.labels) for face in outcome if face.scores is not None)
