"""What each part of a class score contributes: alone, and as the difference that leaving it out makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.training.episodes import EpisodeSampler
from model.training.evaluate import Difference, difference_of
from model.training.scorers import RelationScorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartResult:
    """Accuracies on the same episodes."""

    alone: float
    """Of this part and no other"""
    without: float | None
    """Of all parts but this one, by their weights; None where no other part has a weight"""
    difference: Difference | None
    """Accuracy of all parts less that without this one"""

    def summary(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "alone": self.alone,
            "without": self.without,
            "difference": None if self.difference is None else self.difference.difference,
            "difference_ci95": None if self.difference is None else self.difference.ci95,
        }


def measure_parts(
    scorer: RelationScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, PartResult]:
    """Measure every part over the episodes that `evaluate` draws with this sampler and seed."""
    weights = scorer.part_weights
    without = {
        name: {**weights, name: 0.0}
        for name in scorer.part_names
        if any(weight for other, weight in weights.items() if other != name)
    }
    truth = np.arange(sampler.way).repeat(sampler.query)
    whole: list[npt.NDArray[np.float64]] = []
    alone: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in scorer.part_names}
    others: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in without}

    def accuracies(scores: Tensor) -> npt.NDArray[np.float64]:
        correct: npt.NDArray[np.float64] = (scores.argmax(dim=-1).numpy() == truth).mean(axis=1)
        return correct

    for _, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        parts = scorer.class_parts(support, query.reshape(len(query), -1))
        whole.append(accuracies(scorer.weigh(parts, weights)))
        for index, name in enumerate(scorer.part_names):
            alone[name].append(accuracies(parts[..., index]))
        for name, weights_of_others in without.items():
            others[name].append(accuracies(scorer.weigh(parts, weights_of_others)))
        progress(sum(map(len, whole)), episodes)

    def result(name: str) -> PartResult:
        rest = np.concatenate(others[name]) if name in others else None
        return PartResult(
            alone=float(np.concatenate(alone[name]).mean()),
            without=None if rest is None else float(rest.mean()),
            difference=None if rest is None else difference_of(np.concatenate(whole), rest),
        )

    return {name: result(name) for name in scorer.part_names}
