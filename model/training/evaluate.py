"""Measure few-shot accuracy over seeded episodes: interval, confusion, parts, unknown faces.

A known query belongs to a class of the support set; an absent class has no examples in it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.training.episodes import EpisodeSampler
from model.training.scorers import EpisodeScorer, RelationScorer, ThresholdScorer

Progress = Callable[[int, int], None]
"""Called with (episodes done, episodes in total)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy over episodes; `ci95` is the half-width of the mean's normal 95% interval."""

    accuracy: float
    ci95: float
    per_class: dict[str, float]
    """Recall of each class"""
    confusion: dict[str, dict[str, int]]
    """Counts of queries: confusion[true class][predicted class]"""
    episodes: int
    way: int
    shot: int
    query: int
    seed: int
    weights_sha256: str
    episode_accuracies: npt.NDArray[np.float64]
    """(episodes,), in the order drawn"""
    mistakes: npt.NDArray[np.int64]
    """(mistakes, 1 + shot): the image of a query that was classified wrongly, and the support images of the
    class that was predicted"""

    def summary(self) -> dict[str, object]:
        """Everything but the arrays, ready for JSON."""
        fields = (field.name for field in dataclasses.fields(self))
        return {
            name: getattr(self, name) for name in fields if name not in ("episode_accuracies", "mistakes")
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartResult:
    """The contribution of one part of the class score, measured on the same episodes."""

    alone: float
    """Accuracy of this part alone"""
    alone_ci95: float
    without: float | None
    """Accuracy of all other parts; None if no other part has a weight"""
    difference: float | None
    """Accuracy of all parts minus the accuracy without this part"""
    difference_ci95: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestScores:
    """The highest class score of each query of some episodes."""

    support: npt.NDArray[np.int64]
    """(episodes, way, shot) image indices of the support sets"""
    known: npt.NDArray[np.float64]
    """(episodes, queries) of the classes of the support set"""
    absent: npt.NDArray[np.float64]
    """(episodes, queries) of one absent class"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnknownResult:
    """The effect of thresholds in sessions of one way and shot; each figure is a fraction."""

    known_kept: float
    """Share of the known queries whose best score reaches the threshold"""
    absent_told: float
    """Share of the queries of absent classes whose best score is below the threshold"""
    auroc: float
    """Probability that a known query exceeds its threshold by more than an absent one; ties count half"""
    way: int
    shot: int


def evaluate(
    scorer: EpisodeScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Mean accuracy over seeded episodes; the same sampler and seed give the same episodes."""
    way, classes = sampler.way, sampler.classes
    accuracies: list[np.float64] = []
    mistakes = [np.empty((0, 1 + sampler.shot), dtype=np.int64)]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    truth = np.arange(way).repeat(sampler.query)
    for drawn, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        queries = query.reshape(len(query), -1)
        predicted = scorer.class_scores(support, queries).argmax(dim=-1).numpy()
        accuracies.extend((predicted == truth).mean(axis=1))
        wrong = episode, place = np.nonzero(predicted != truth)
        mistakes.append(np.column_stack([queries[wrong], support[episode, predicted[episode, place]]]))
        numbers = np.array([[classes.index(label) for label in episode.classes] for episode in drawn])
        np.add.at(confusion, (numbers[:, truth], np.take_along_axis(numbers, predicted, axis=1)), 1)
        progress(len(accuracies), episodes)
    episode_accuracies = np.array(accuracies)
    accuracy, ci95 = mean_and_ci95(episode_accuracies)
    return Evaluation(
        accuracy=accuracy,
        ci95=ci95,
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
        mistakes=np.concatenate(mistakes),
    )


def measure_parts(
    scorer: RelationScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> dict[str, PartResult]:
    """Measure every part of the class score over the episodes that `evaluate` draws with this seed."""
    weights, names = scorer.part_weights, scorer.part_names
    without = {name: {**weights, name: 0.0} for name in names}
    without = {name: others for name, others in without.items() if any(others.values())}
    truth = np.arange(sampler.way).repeat(sampler.query)
    batches: dict[tuple[str, str], list[npt.NDArray[np.float64]]] = defaultdict(list)

    def accuracies(scores: Tensor) -> npt.NDArray[np.float64]:
        correct: npt.NDArray[np.float64] = (scores.argmax(dim=-1).numpy() == truth).mean(axis=1)
        return correct

    for _, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        parts = scorer.class_parts(support, query.reshape(len(query), -1))
        batches["all", ""].append(accuracies(scorer.weigh(parts, weights)))
        for index, name in enumerate(names):
            batches["alone", name].append(accuracies(parts[..., index]))
        for name, others in without.items():
            batches["without", name].append(accuracies(scorer.weigh(parts, others)))
        progress(sum(map(len, batches["all", ""])), episodes)
    measured = {key: np.concatenate(found) for key, found in batches.items()}

    def result(name: str) -> PartResult:
        others = measured.get(("without", name))
        difference, ci95 = (None, None) if others is None else mean_and_ci95(measured["all", ""] - others)
        alone, alone_ci95 = mean_and_ci95(measured["alone", name])
        return PartResult(
            alone=alone,
            alone_ci95=alone_ci95,
            without=None if others is None else float(others.mean()),
            difference=difference,
            difference_ci95=ci95,
        )

    return {name: result(name) for name in names}


def draw_best_scores(
    scorer: EpisodeScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> BestScores:
    """Score episodes in which the last class has queries but no examples.

    Args: sampler, whose way is one more than that of the support sets.
    """
    way = sampler.way - 1
    supports, known, absent = [], [], []
    for _, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        scores = scorer.class_scores(support[:, :way], query.reshape(len(query), -1))
        best = scores.amax(dim=-1).reshape(query.shape).double().numpy()
        supports.append(support[:, :way])
        known.append(best[:, :way].reshape(len(query), -1))
        absent.append(best[:, way])
        progress(sum(map(len, supports)), episodes)
    return BestScores(
        support=np.concatenate(supports), known=np.concatenate(known), absent=np.concatenate(absent)
    )


def measure_unknown(
    scorer: ThresholdScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Progress = lambda done, total: None,
) -> UnknownResult:
    """Measure the thresholds that sessions compute for themselves, on episodes with an absent class.

    Args: sampler, whose way is one more than that of the support sets.
    """
    best = draw_best_scores(scorer, sampler, episodes=episodes, seed=seed, progress=progress)
    return judge_thresholds(best, scorer.thresholds(best.support).double().numpy())


def judge_thresholds(best: BestScores, thresholds: npt.NDArray[np.float64]) -> UnknownResult:
    """Apply the thresholds (episodes,); a query is unknown if its best score is below the threshold."""
    known, absent = (scores - thresholds[:, None] for scores in (best.known, best.absent))
    _, way, shot = best.support.shape
    return UnknownResult(
        known_kept=float((known >= 0).mean()),
        absent_told=float((absent < 0).mean()),
        auroc=area_under_roc(known.ravel(), absent.ravel()),
        way=way,
        shot=shot,
    )


def area_under_roc(higher: npt.NDArray[np.float64], lower: npt.NDArray[np.float64]) -> float:
    """Probability that one of the first exceeds one of the second; ties count half (Mann and Whitney's U)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left")
    not_above = np.searchsorted(ordered, higher, side="right")
    return float((below + not_above).mean() / 2 / len(lower))


def mean_and_ci95(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The mean of values (episodes,), and the half-width of its normal 95% interval: NaN for one value."""
    ci95 = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(ci95)
