"""Fit the rule for a session's threshold so that nine in ten known queries reach it.

The fit is a linear quantile regression (Koenker and Bassett, "Regression quantiles", Econometrica 1978) over
sessions of many ways, shots and kinds of classes. It predicts how far the best scores of known queries lie
above the start of the threshold. Queries of absent classes do not influence the fit; they only measure it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import EpisodeImpossible
from model.training.episodes import EpisodeSampler, classes_with_enough
from model.training.evaluate import BestScores, UnknownResult, draw_best_scores, judge_thresholds
from model.training.scorers import ThresholdScorer
from model.unknown import TERMS, SessionStatistics, UnknownRule

KNOWN_KEPT = 0.90
"""Share of the known queries that shall reach the threshold"""
WAYS = (1, 2, 3, 5, 8, 12, 20)
SHOTS = (1, 2, 5, 10)
QUERIES = 2
"""Queries of each class in an episode"""

ROUNDS = 300
LARGEST_SMOOTHING, SMALLEST_SMOOTHING = 1.0, 1e-4
"""Added to the residuals in the first and the last round, in deviations of the scores"""
RIDGE = 1e-8
"""Sets the coefficient of a term that is always 0 to 0, and divides a coefficient among equal terms"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleFit:
    """A fitted rule, and its effect in the sessions that it was fitted on."""

    rule: UnknownRule
    results: tuple[UnknownResult, ...]
    """One for each way and shot, in ascending order"""

    def summary(self) -> dict[str, object]:
        """The fitted threshold rule and its results for each way and shot, for JSON."""
        results = [dataclasses.asdict(result) for result in self.results]
        return {"rule": self.rule.model_dump(), "results": results}


def session_samplers(
    kinds: Iterable[npt.NDArray[np.str_]],
    *,
    ways: Sequence[int] = WAYS,
    shots: Sequence[int] = SHOTS,
    query: int = QUERIES,
    **options: Any,
) -> list[EpisodeSampler]:
    """Build a sampler for each kind of classes and each way and shot for which it has enough images.

    Args:
        kinds: labels (images,) of the same images, one array per kind; "" for an image without a class.
        ways: numbers of classes of a support set; each sampler draws one more class.
        query, options: as for EpisodeSampler.
    Raises: EpisodeImpossible if there is no sampler at all.
    """
    samplers = []
    for labels in kinds:
        for shot in shots:
            classes = classes_with_enough(labels, shot=shot, query=query, **options)
            for way in ways:
                with contextlib.suppress(EpisodeImpossible):
                    samplers.append(
                        EpisodeSampler(
                            labels, classes=classes, way=way + 1, shot=shot, query=query, **options
                        )
                    )
    if not samplers:
        raise EpisodeImpossible(
            f"fitting `unknown_below` needs classes with {min(shots) + query} images each; there are none"
        )
    return samplers


def fit_unknown_rule(
    scorer: ThresholdScorer,
    samplers: Sequence[EpisodeSampler],
    *,
    episodes: int,
    seed: int,
) -> RuleFit:
    """Fit the rule on episodes of every sampler; all samplers have the same weight.

    Args:
        scorer: over held-out images.
        samplers: from `session_samplers`.
        episodes: number of episodes of each sampler.
    """
    drawn: list[tuple[BestScores, list[SessionStatistics]]] = []
    for number, sampler in enumerate(samplers):
        best = draw_best_scores(scorer, sampler, episodes=episodes, seed=seed + number)
        drawn.append((best, scorer.statistics(best.support)))
    sessions = [
        (session, scores)
        for best, statistics in drawn
        for session, scores in zip(statistics, best.known, strict=True)
    ]
    rule = UnknownRule(
        several=_fit([known for known in sessions if known[0].low is not None]),
        single=_fit([known for known in sessions if known[0].low is None]),
    )
    return RuleFit(rule=rule, results=_results(rule, drawn))


def _fit(sessions: Sequence[tuple[SessionStatistics, npt.NDArray[np.float64]]]) -> tuple[float, ...]:
    """Fit coefficients to sessions with the best scores of their known queries; zeros without sessions."""
    if not sessions:
        return (0.0,) * TERMS
    coefficients = fit_quantile(
        np.array([session.terms() for session, _ in sessions]),
        [scores - session.start for session, scores in sessions],
        quantile=1 - KNOWN_KEPT,
    )
    return tuple(coefficients.tolist())


def fit_quantile(
    terms: npt.NDArray[np.float64], scores: Sequence[npt.NDArray[np.float64]], *, quantile: float
) -> npt.NDArray[np.float64]:
    """Coefficients (terms,) that express a quantile of the scores as a weighted sum of terms.

    They are found by iterated least squares (Hunter and Lange, "Quantile regression via an MM algorithm",
    J. Comput. Graph. Stat. 2000). All sessions have the same weight.

    Args:
        terms: (sessions, terms).
        scores: one array per session, of any length.
    """
    sessions = np.repeat(np.arange(len(scores)), [len(found) for found in scores])
    weights = np.concatenate([np.full(len(found), 1 / len(found)) for found in scores]) / len(scores)
    flat = np.concatenate(scores)
    deviation = flat.std() or 1.0
    flat = flat / deviation
    pull = (2 * quantile - 1) * (terms.T @ np.full(len(scores), 1 / len(scores)))
    ridge = RIDGE * np.eye(terms.shape[1])
    coefficients = np.zeros(terms.shape[1])
    for smoothing in np.geomspace(LARGEST_SMOOTHING, SMALLEST_SMOOTHING, ROUNDS):
        residuals = flat - (terms @ coefficients)[sessions]
        nearness = weights / (smoothing + np.abs(residuals))
        of_session = np.bincount(sessions, nearness, minlength=len(scores))
        of_scores = np.bincount(sessions, nearness * flat, minlength=len(scores))
        coefficients = np.linalg.solve(
            (terms * of_session[:, None]).T @ terms + ridge, terms.T @ of_scores + pull
        )
    return coefficients * deviation


def _results(
    rule: UnknownRule, drawn: Sequence[tuple[BestScores, list[SessionStatistics]]]
) -> tuple[UnknownResult, ...]:
    """The effect of the rule for each way and shot, over all kinds of classes."""
    shapes = sorted({best.support.shape[1:] for best, _ in drawn})
    results = []
    for shape in shapes:
        alike = [(best, sessions) for best, sessions in drawn if best.support.shape[1:] == shape]
        together = BestScores(
            support=np.concatenate([best.support for best, _ in alike]),
            known=np.concatenate([best.known for best, _ in alike]),
            absent=np.concatenate([best.absent for best, _ in alike]),
        )
        thresholds = [rule.threshold(session) for _, sessions in alike for session in sessions]
        results.append(judge_thresholds(together, np.array(thresholds)))
    return tuple(results)
