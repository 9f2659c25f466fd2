"""Answers of the HTTP API, made of what the engine and the stores give."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from app.inference.engine import QueryOutcome, ScoredFace, Upload
from csrn_client import schemas
from model.checkpoint import Checkpoint
from model.leave_one_out import LeftOut
from model.vision.faces import Box
from model.vision.patches import PARTS, PatchLayout

CLEAR_FROM, MIXED_FROM = 0.8, 0.5
"""Share of a class's examples that must be told right for the verdict"""


def box_answer(box: Box) -> schemas.Box:
    return schemas.Box(
        x_min=round(box.x_min, 1),
        y_min=round(box.y_min, 1),
        x_max=round(box.x_max, 1),
        y_max=round(box.y_max, 1),
    )


def results_answer(
    uploads: Sequence[Upload],
    outcomes: Sequence[QueryOutcome],
    *,
    checkpoint: Checkpoint,
    unknown_below: float,
    regions: bool = False,
    timings_ms: dict[str, float],
) -> schemas.Results:
    """unknown_below: the threshold to apply. regions: whether to say where the patches lie."""
    layout = checkpoint.config.layout if regions else None
    return schemas.Results(
        results=[
            result_answer(index, upload.filename, outcome, unknown_below=unknown_below, layout=layout)
            for index, (upload, outcome) in enumerate(zip(uploads, outcomes, strict=True))
        ],
        model=schemas.ModelId(weights_sha256=checkpoint.sha256),
        unknown_below=unknown_below,
        timings_ms=timings_ms,
    )


def result_answer(
    index: int,
    filename: str | None,
    outcome: QueryOutcome,
    *,
    unknown_below: float | None,
    layout: PatchLayout | None = None,
) -> schemas.Result:
    """As results_answer, for one image.

    Args: unknown_below, None if no face has scores; layout, of the patches if regions were asked for.
    """
    if isinstance(outcome, list):
        faces = [_face(face, unknown_below, layout) for face in outcome]
        return schemas.Result(index=index, filename=filename, faces=faces)
    error = schemas.ItemError(code=outcome.code, detail=str(outcome))
    return schemas.Result(index=index, filename=filename, faces=[], error=error)


def _face(face: ScoredFace, unknown_below: float | None, layout: PatchLayout | None) -> schemas.Face:
    scores = face.scores
    known = scores and unknown_below is not None and scores[0].score >= unknown_below
    answer = schemas.Face(
        box=box_answer(face.box_px),
        predicted=scores[0].label if known else None,
        scores=[
            schemas.ClassScore(
                label=score.label,
                score=score.score,
                parts=schemas.Parts(**score.parts),
                nearest_example_id=score.nearest_example_id,
            )
            for score in scores
        ],
        margin=scores[0].score - scores[1].score if len(scores) > 1 else None,
    )
    if layout is not None:
        regions = zip(PARTS, layout.regions(face.landmarks.points_px), strict=True)
        corners = {
            part: [(round(x, 1), round(y, 1)) for x, y in region.corners_px] for part, region in regions
        }
        answer.regions = schemas.Regions(**corners)
    return answer


def quality_answer(
    revision: int,
    classes: Mapping[str, int],
    left_out: Sequence[LeftOut],
    *,
    unknown_below: float | None,
) -> schemas.Quality:
    """The quality of a support set.

    Args: classes, label to number of examples; left_out, of every class that could be measured;
        unknown_below, the threshold computed for the support set, None without classes.
    """
    taken_for = collections.Counter((example.label, example.predicted) for example in left_out)
    right = sum(taken_for[label, label] for label in classes)
    return schemas.Quality(
        revision=revision,
        accuracy=right / len(left_out) if left_out else None,
        unknown_below=unknown_below,
        labels=[*classes],
        confusion=[[taken_for[label, other] for other in classes] for label in classes],
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
    told_right = len(left_out) - len(wrong)
    rivals = collections.Counter(example.predicted for example in wrong).most_common()
    verdict: schemas.Verdict
    if not left_out:
        verdict = "not_measurable"
        detail = (
            "It is the only class: add another to tell it from."
            if only_class
            else "It has one example only: add a second, so that each can be checked by the other."
        )
    else:
        share = told_right / len(left_out)
        verdict = "clear" if share >= CLEAR_FROM else "mixed" if share >= MIXED_FROM else "confused"
        detail = f"{told_right} of {len(left_out)} examples are told right."
        if wrong:
            looks = ", ".join(other for other, _ in rivals)
            detail += f" Those told wrong look like {looks}: replace them, or add clearer ones."
    return schemas.ClassQuality(
        label=label,
        examples=examples,
        told_right=told_right if left_out else None,
        verdict=verdict,
        detail=detail,
        confused_with=[schemas.ConfusedClass(label=other, examples=count) for other, count in rivals],
        confusing_examples=[
            schemas.ConfusingExample(
                example_id=example.example_id, predicted=example.predicted, margin=example.margin
            )
            for example in wrong
        ],
    )
