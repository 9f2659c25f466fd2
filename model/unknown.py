"""The threshold of a session: a face whose best class score is lower belongs to none of the classes.

Each example is scored by the other examples of its session, as a future query would be. The threshold is a
low quantile of these scores, corrected for the number of classes and of examples. The correction is a linear
quantile regression (Koenker and Bassett, "Regression quantiles", Econometrica 1978), fitted on training
episodes.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor, nn

LOW_QUANTILE = 0.2
RIVAL_SHARE = 0.5
"""A one-shot session's threshold starts at this share of the examples' mean score with other classes"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionStatistics:
    """What the rule uses of a support set. Only the parts that compare class means are scored."""

    way: int
    inverse_shots: float
    """Mean of 1 / shots over the classes"""
    low: float | None
    """LOW_QUANTILE of the examples' best scores, each scored by the other examples; None if every class
    has one example, or if the network has no such part"""
    rival: float | None
    """Mean over the examples of the best score with another class; None if there is one class,
    or if the network has no such part"""

    @property
    def start(self) -> float:
        """The threshold before its correction."""
        if self.low is not None:
            return self.low
        return 0.0 if self.rival is None else RIVAL_SHARE * self.rival

    def terms(self) -> list[float]:
        """The terms of the correction, a constant first."""
        return [1.0, math.log(self.way), self.inverse_shots, float(self.way == 1)]


TERMS = len(SessionStatistics(way=1, inverse_shots=1, low=None, rival=None).terms())
Coefficients = Annotated[tuple[float, ...], pydantic.Field(min_length=TERMS, max_length=TERMS)]


class UnknownRule(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Threshold = start + sum of coefficients * terms of the session, clipped to [0, 1]."""

    several: Coefficients
    """For sessions in which some class has several examples"""
    single: Coefficients
    """For all other sessions"""

    def threshold(self, session: SessionStatistics) -> float:
        """`unknown_below` of a session."""
        coefficients = self.single if session.low is None else self.several
        correction = float(np.dot(coefficients, session.terms()))
        return min(max(session.start + correction, 0.0), 1.0)


def describe_session(
    described: dict[str, Tensor], class_of_example: npt.NDArray[np.int64], weights: dict[str, float]
) -> SessionStatistics:
    """Compute the statistics of a support set, at the cost of one product of its examples and class means.

    Args:
        described: (examples, D) descriptions of each part of `CSRN.describe`.
        class_of_example: (examples,) class numbers from 0; every class has an example.
        weights: weight of each of those parts.
    """
    shots = np.bincount(class_of_example)
    member = torch.eye(len(shots))[torch.from_numpy(class_of_example)]
    """(examples, classes) 1 if the example belongs to the class, else 0"""
    own, rival = torch.zeros(len(member)), torch.zeros(member.shape)
    for name, found in described.items():
        weight = weights[name] / max(sum(weights.values()), 1e-9)
        examples = found.cpu()
        sums = member.T @ examples
        to_means = nn.functional.normalize(examples, dim=1) @ nn.functional.normalize(sums, dim=1).T
        # The sum of the class's other examples has the same direction as their mean.
        to_own = nn.functional.cosine_similarity(examples, member @ sums - examples, dim=1)
        own += weight * (1 + to_own) / 2
        rival += weight * (1 + to_means) / 2
    best_rival = (rival - 2 * member).amax(dim=1)
    several = torch.from_numpy(shots > 1)[member.argmax(dim=1)]
    best = torch.maximum(own, best_rival)[several]
    return SessionStatistics(
        way=len(shots),
        inverse_shots=float((1 / shots).mean()),
        low=float(best.quantile(LOW_QUANTILE)) if described and several.any() else None,
        rival=float(best_rival.mean()) if described and len(shots) > 1 else None,
    )
