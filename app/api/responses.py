"""Responses of the HTTP API, made from results of the engine and the store."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

from app.api.problems import public_detail
from app.inference.engine import QueryOutcome, ScoredFace, Upload
from csrn_client import schemas
from model.checkpoint import Checkpoint
from model.errors import CsrnError
from model.leave_one_out import LeftOut
from model.vision.faces import Box
from model.vision.patches import PARTS, PatchLayout

CLEAR_FROM, MIXED_FROM = 0.8, 0.5
"""Share of a class's examples that must be classified correctly for the verdict"""


def box_response(box: Box) -> schemas.Box:
    return schemas.Box(**{side: round(at_px, 1) for side, at_px in dataclasses.asdict(box).items()})


def results_response(
    uploads: Sequence[Upload],
    outcomes: Sequence[QueryOutcome],
    *,
    checkpoint: Checkpoint,
    unknown_below: float,
    regions: bool = False,
    timings_ms: dict[str, float],
) -> schemas.Results:
    """unknown_below: the threshold to apply. regions: whether to add the corners of the patches."""
    layout = checkpoint.config.layout if regions else None
    return schemas.Results(
        results=[
            result_response(index, upload.filename, outcome, unknown_below=unknown_below, layout=layout)
            for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True))
        ],
        model=schemas.ModelId(weights_sha256=checkpoint.sha256),
        unknown_below=unknown_below,
        timings_ms=timings_ms,
    )


def result_response(
    index: int,
    filename: str | None,
    outcome: QueryOutcome,
    *,
    unknown_below: float | None,
    layout: PatchLayout | None = None,
) -> schemas.Result:
    """The result of one image.

    Args: unknown_below, None if no face has scores; layout, of the patches if the client asks for regions.
    """
    if isinstance(outcome, CsrnError):
        error = schemas.ItemError(code=outcome.code, detail=public_detail(outcome))
        return schemas.Result(index=index, filename=filename, faces=[], error=error)
    faces = [_face(face, unknown_below, layout) for face in outcome]
    return schemas.Result(index=index, filename=filename, faces=faces)


def _face(face: ScoredFace, unknown_below: float | None, layout: PatchLayout | None) -> schemas.Face:
    scores = [] if face.scores is None else face.scores.ranked()
    known = scores and unknown_below is not None and scores[0].score >= unknown_below
    response = schemas.Face(
        box=box_response(face.face.box_px),
        predicted=scores[0].label if known else None,
        scores=[schemas.ClassScore.model_validate(score, from_attributes=True) for score in scores],
        margin=scores[0].score - scores[1].score if len(scores) > 1 else None,
    )
    if layout is not None:
        regions = zip(PARTS, layout.regions(face.face.landmarks.points_px), strict=True)
        corners = {
            part: [(round(x, 1), round(y, 1)) for x, y in region.corners_px] for part, region in regions
        }
        response.regions = schemas.Regions(**corners)
    return response


def quality_response(
    revision: int, classes: Mapping[str, int], left_out: Sequence[LeftOut], *, unknown_below: float | None
) -> schemas.Quality:
    """The quality of a support set.

    Args: classes, label to number of examples; left_out, of every class that could be measured;
        unknown_below, the threshold computed for the support set, None without classes.
    """
    predictions = collections.Counter((example.label, example.predicted) for example in left_out)
    correct = sum(predictions[label, label] for label in classes)
    return schemas.Quality(
        revision=revision,
        accuracy=correct / len(left_out) if left_out else None,
        unknown_below=unknown_below,
        labels=[*classes],
        confusion=[[predictions[label, other] for other in classes] for label in classes],
        classes=[
            _class_quality(
                label,
                examples,
                [example for example in left_out if example.label == label],
                only_class=len(classes) == 1,
            )
            for label, examples in classes.items()
        ],
    )


def _class_quality(
    label: str, examples: int, left_out: Sequence[LeftOut], *, only_class: bool
) -> schemas.ClassQuality:
    wrong = sorted(
        (example for example in left_out if example.predicted != label), key=lambda example: example.margin
    )
    correct = len(left_out) - len(wrong)
    rivals = collections.Counter(example.predicted for example in wrong).most_common()
    verdict: schemas.Verdict
    if not left_out:
        verdict = "not_measurable"
        detail = (
            "It is the only class: add another class to compare it with."
            if only_class
            else "It has only one example: add a second one, so that each can be classified by the other."
        )
    else:
        share = correct / len(left_out)
        verdict = "clear" if share >= CLEAR_FROM else "mixed" if share >= MIXED_FROM else "confused"
        detail = f"{correct} of {len(left_out)} examples are classified correctly."
        if wrong:
            detail += f" The others look like {', '.join(other for other, _ in rivals)}: "
            detail += "replace them, or add clearer ones."
    return schemas.ClassQuality(
        label=label,
        examples=examples,
        correct=correct if left_out else None,
        verdict=verdict,
        detail=detail,
        confused_with=[schemas.ConfusedClass(label=other, examples=count) for other, count in rivals],
        confusing_examples=[
            schemas.ConfusingExample.model_validate(example, from_attributes=True) for example in wrong
        ],
    )
