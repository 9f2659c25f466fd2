"""Find the class score under which a query had better be called unknown."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.training.episodes import EpisodeSampler
from model.training.scorers import EpisodeScorer

KEPT_KNOWN = 0.95
"""Share of the queries of a taught class whose best score must reach the threshold"""
CURVE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Shares of known queries kept for which the curve says how many absent ones are told"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """What one threshold does."""

    unknown_below: float
    known_kept: float
    """Share of the queries of a taught class that keep a prediction"""
    absent_told: float
    """Share of the queries of a class that was not taught that are called unknown"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """The chosen threshold and the curve that it was chosen from."""

    unknown_below: float
    curve: tuple[CurvePoint, ...]
    way: int
    shot: int
    episodes: int


def calibrate(scorer: EpisodeScorer, sampler: EpisodeSampler, *, episodes: int, seed: int) -> Calibration:
    """Calibrate `unknown_below` on episodes of which the last class is asked for but not taught.

    The threshold keeps KEPT_KNOWN of the queries of taught classes: a session is asked about what it
    was taught far more often than about what it was not, and a wrong "unknown" is the dearer fault.

    Args: sampler: of way + 1 classes, over held-out images.
    """
    way = sampler.way - 1
    known, absent = [], []
    for _, support, query in sampler.draw_batches(episodes, np.random.default_rng(seed)):
        scores = scorer.class_scores(support[:, :way], query.reshape(len(query), -1))
        best = scores.amax(dim=-1).reshape(query.shape).numpy()
        known.append(best[:, :way].ravel())
        absent.append(best[:, way].ravel())
    return _calibration(np.concatenate(known), np.concatenate(absent), way, sampler.shot, episodes)


def _calibration(
    known: npt.NDArray[np.floating],
    absent: npt.NDArray[np.floating],
    way: int,
    shot: int,
    episodes: int,
) -> Calibration:
    def point(kept: float) -> CurvePoint:
        threshold = round(float(np.quantile(known, 1 - kept)), 4)
        return CurvePoint(
            unknown_below=threshold,
            known_kept=float((known >= threshold).mean()),
            absent_told=float((absent < threshold).mean()),
        )

    return Calibration(
        unknown_below=point(KEPT_KNOWN).unknown_below,
        curve=tuple(point(kept) for kept in CURVE),
        way=way,
        shot=shot,
        episodes=episodes,
    )
