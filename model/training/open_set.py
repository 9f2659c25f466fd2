"""Queries of classes that were not taught: how well a session's threshold tells them from the known ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model.training.episodes import EpisodeSampler
from model.training.scorers import EpisodeScorer, ThresholdScorer


@dataclasses.dataclass(frozen=True, kw_only=True)
class BestScores:
    """The highest class score of each query of some episodes."""

    support: npt.NDArray[np.int64]
    """(episodes, way, shot) image indices of the support sets"""
    known: npt.NDArray[np.float64]
    """(episodes, queries): of queries whose class was taught"""
    absent: npt.NDArray[np.float64]
    """(episodes, queries): of queries of one more class, which was not taught"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnknownResult:
    """What thresholds do in sessions of one way and shot; each figure is a fraction."""

    known_kept: float
    """Share of the queries of taught classes whose best score reaches the threshold"""
    absent_told: float
    """Share of the queries of a class that was not taught whose best score does not"""
    auroc: float
    """Chance that a known query lies further above its threshold than an absent one; ties count half"""
    way: int
    shot: int

    def summary(self) -> dict[str, object]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def draw_best_scores(
    scorer: EpisodeScorer,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BestScores:
    """Score episodes in which the last class is asked about but not taught.

    Args: sampler: of one class more than is taught.
    """
    way = sampler.way - 1
    supports, known, absent = [], [], []
    for _, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        taught = support[:, :way]
        scores = scorer.class_scores(taught, query.reshape(len(query), -1))
        best = scores.amax(dim=-1).reshape(query.shape).double().numpy()
        supports.append(taught)
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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> UnknownResult:
    """Measure each session's own threshold on episodes with a class that was not taught.

    Args: sampler: of one class more than is taught.
    """
    best = draw_best_scores(scorer, sampler, episodes=episodes, seed=seed, progress=progress)
    return judge_thresholds(best, scorer.thresholds(best.support).double().numpy())


def judge_thresholds(best: BestScores, thresholds: npt.NDArray[np.float64]) -> UnknownResult:
    """What the thresholds (episodes,) do; a query is unknown below the threshold, not at it."""
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
    """Chance that one of the first exceeds one of the second; ties count half (Mann and Whitney's U)."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left")
    not_above = np.searchsorted(ordered, higher, side="right")
    return float((below + not_above).mean() / 2 / len(lower))
