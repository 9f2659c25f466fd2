"""When a face is none of the classes: the threshold of a session, computed from the session itself.

A threshold that keeps nine in ten faces of taught classes depends on how many classes there are, on how
many examples each has, and on how alike the examples are. The rule is a linear quantile regression
(Koenker and Bassett, "Regression quantiles", Econometrica 1978), fitted on training episodes.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionStatistics:
    """What the rule knows of a support set. Scores are those of the parts that compare class means."""

    way: int
    inverse_shots: float
    """Mean of 1 / shots over the classes"""
    own: float | None
    """Mean score of an example with its class's other examples; None if every class has one example,
    or the network has no such part"""
    rival: float | None
    """Mean best score of an example with the other classes; None if there is one class,
    or the network has no such part"""

    def vector(self) -> list[float]:
        """The terms of the regression, a constant first; a missing statistic has no term."""
        return [
            1.0,
            math.log(self.way),
            self.inverse_shots,
            0.0 if self.own is None else 1.0,
            0.0 if self.own is None else self.own,
            0.0 if self.rival is None else 1.0,
            0.0 if self.rival is None else self.rival,
        ]


TERMS = len(SessionStatistics(way=1, inverse_shots=1, own=None, rival=None).vector())


class UnknownRule(pydantic.BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Threshold = the sum of coefficients times the terms of `SessionStatistics.vector`, within [0, 1]."""

    coefficients: tuple[float, ...] = pydantic.Field(min_length=TERMS, max_length=TERMS)

    def threshold(self, statistics: SessionStatistics) -> float:
        """`unknown_below` of a session."""
        terms = zip(self.coefficients, statistics.vector(), strict=True)
        return min(max(sum(coefficient * term for coefficient, term in terms), 0.0), 1.0)


def describe_session(
    described: dict[str, Tensor], class_of_example: npt.NDArray[np.int64], weights: dict[str, float]
) -> SessionStatistics:
    """Statistics of a support set; costs one product of its examples with its class means.

    Args:
        described: (examples, D) descriptions of each of the network's `mean_parts`.
        class_of_example: (examples,) class numbers from 0, none left out.
        weights: of each of those parts.
    """
    shots = np.bincount(class_of_example)
    member = torch.eye(len(shots))[torch.from_numpy(class_of_example)]
    """(examples, classes) 1 where the example is of the class"""
    own, rival = torch.zeros(len(member)), torch.zeros(member.shape)
    for name, found in described.items():
        weight = weights[name] / max(sum(weights.values()), 1e-9)
        examples = found.cpu()
        sums = member.T @ examples
        to_means = nn.functional.normalize(examples, dim=1) @ nn.functional.normalize(sums, dim=1).T
        # The mean of the class's other examples has the direction of their sum.
        to_own = nn.functional.cosine_similarity(examples, member @ sums - examples, dim=1)
        own += weight * (1 + to_own) / 2
        rival += weight * (1 + to_means) / 2
    several = torch.from_numpy(shots > 1)[member.argmax(dim=1)]
    return SessionStatistics(
        way=len(shots),
        inverse_shots=float((1 / shots).mean()),
        own=float(own[several].mean()) if described and several.any() else None,
        rival=float((rival - member).amax(dim=1).mean()) if described and len(shots) > 1 else None,
    )
