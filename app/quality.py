"""What leaving out each example in turn says of a support set, in figures and in plain words."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Literal

from app.errors import Documented
from model.leave_one_out import LeftOut

Verdict = Literal["clear", "mixed", "confused", "not_measurable"]
CLEAR_FROM, MIXED_FROM = 0.8, 0.5
"""Share of a class's examples that must be told right for the verdict"""


class ConfusedClass(Documented):
    label: str
    examples: int
    """How many of the class's examples are taken for this one"""


class ConfusingExample(Documented):
    example_id: str
    predicted: str
    margin: float
    """Score of its own class less that of the one it is taken for: below 0"""


class ClassQuality(Documented):
    label: str
    examples: int
    told_right: int | None
    """How many examples the others tell right; null where that cannot be measured"""
    verdict: Verdict
    """clear from 80 % told right, mixed from 50 %, else confused"""
    detail: str
    """The verdict as a sentence"""
    confused_with: list[ConfusedClass]
    """Most often first"""
    confusing_examples: list[ConfusingExample]
    """Those told wrong, the worst first"""


class Quality(Documented):
    """Leave-one-out confusion of a support set: each example is classified by all the others."""

    revision: int
    """Of the session that was looked at"""
    accuracy: float | None
    """Share of the measured examples that are told right; null where none could be measured"""
    labels: list[str]
    confusion: list[list[int]]
    """Rows: the example's class. Columns: what it is taken for"""
    classes: list[ClassQuality]

    @classmethod
    def of(cls, revision: int, classes: Mapping[str, int], left_out: Sequence[LeftOut]) -> Quality:
        """classes: label to number of examples. left_out: of every class that could be measured."""
        taken_for = collections.Counter((example.label, example.predicted) for example in left_out)
        right = sum(taken_for[label, label] for label in classes)
        return cls(
            revision=revision,
            accuracy=right / len(left_out) if left_out else None,
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
) -> ClassQuality:
    wrong = sorted(
        (example for example in left_out if example.predicted != label), key=lambda example: example.margin
    )
    told_right = len(left_out) - len(wrong)
    rivals = collections.Counter(example.predicted for example in wrong).most_common()
    verdict: Verdict
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
    return ClassQuality(
        label=label,
        examples=examples,
        told_right=told_right if left_out else None,
        verdict=verdict,
        detail=detail,
        confused_with=[ConfusedClass(label=other, examples=count) for other, count in rivals],
        confusing_examples=[
            ConfusingExample(
                example_id=example.example_id, predicted=example.predicted, margin=example.margin
            )
            for example in wrong
        ],
    )
