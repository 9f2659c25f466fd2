"""Measure few-shot accuracy over seeded episodes: its interval, its confusion, its differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model.training.episodes import EpisodeSampler
from model.training.scorers import EpisodeScorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy over episodes; `ci95` is the half-width of the mean's normal 95% interval."""

    accuracy: float
    ci95: float
    per_class: dict[str, float]
    """Recall of each class"""
    confusion: dict[str, dict[str, int]]
    """Counts of queries: confusion[their class][the class predicted]"""
    episodes: int
    way: int
    shot: int
    query: int
    seed: int
    weights_sha256: str | None
    episode_accuracies: npt.NDArray[np.float64]
    """(episodes,), in the order drawn"""

    def summary(self) -> dict[str, object]:
        """Everything but the accuracies of single episodes, ready for JSON."""
        fields = (field.name for field in dataclasses.fields(self) if field.name != "episode_accuracies")
        return {name: getattr(self, name) for name in fields}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How much more accurate the first of two is on the same episodes, with its 95% interval."""

    difference: float
    ci95: float


def evaluate(
    scorer: EpisodeScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Mean accuracy over seeded episodes; the same sampler and seed give the same episodes.

    Args: progress: called with (episodes done, in all).
    """
    way, classes = sampler.way, sampler.classes
    accuracies: list[np.float64] = []
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    truth = np.arange(way).repeat(sampler.query)
    for drawn, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        scores = scorer.class_scores(support, query.reshape(len(query), -1))
        predicted = scores.argmax(dim=-1).numpy()
        accuracies.extend((predicted == truth).mean(axis=1))
        numbers = np.array([[classes.index(label) for label in episode.classes] for episode in drawn])
        asked = numbers[:, truth]
        np.add.at(confusion, (asked, np.take_along_axis(numbers, predicted, axis=1)), 1)
        progress(len(accuracies), episodes)
    episode_accuracies = np.array(accuracies)
    return Evaluation(
        accuracy=float(episode_accuracies.mean()),
        ci95=_half_width(episode_accuracies),
        per_class={
            label: float(row[index] / row.sum())
            for index, (label, row) in enumerate(zip(classes, confusion, strict=True))
            if row.sum()
        },
        confusion={
            label: dict(zip(classes, row.tolist(), strict=True))
            for label, row in zip(classes, confusion, strict=True)
        },
        episodes=episodes,
        way=way,
        shot=sampler.shot,
        query=sampler.query,
        seed=seed,
        weights_sha256=scorer.weights_sha256,
        episode_accuracies=episode_accuracies,
    )


def paired_difference(first: Evaluation, second: Evaluation) -> Difference:
    """The difference in accuracy of two evaluations on the same episodes."""
    return difference_of(first.episode_accuracies, second.episode_accuracies)


def difference_of(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Difference:
    """The mean difference of accuracies (episodes,) of the same episodes."""
    differences = first - second
    return Difference(difference=float(differences.mean()), ci95=_half_width(differences))


def _half_width(values: npt.NDArray[np.float64]) -> float:
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
