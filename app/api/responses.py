"""Responses of the HTTP API, made from results of the engine and the store."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

from csrn_client import schemas
from model.leave_one_out import LeftOut
from model.vision.faces import Box

CLEAR_FROM, MIXED_FROM = 0.8, 0.5
"""Share of a class's examples that must be classified correctly for the verdict"""


def rounded_box(box: Box) -> dict[str, float]:
    """The members of a schemas.Box."""
    return {side: round(float(at_px), 1) for side, at_px in vars(box).items()}


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
            "It is the only class that is enabled: add or enable another one to compare it with."
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
