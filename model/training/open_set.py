"""Open-set recognition: how well a session's threshold separates known queries from those of absent classes.

A known query belongs to a class of the support set; an absent class has no examples in it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.training.episodes import EpisodeSampler
from model.training.evaluate import Progress
from model.training.scorers import EpisodeScorer, ThresholdScorer


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
