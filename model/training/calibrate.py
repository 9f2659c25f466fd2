"""Fit the rule of a session's threshold: nine in ten queries of taught classes shall reach it.

A linear quantile regression (Koenker and Bassett, "Regression quantiles", Econometrica 1978) of how
far the best scores of known queries lie above where the threshold of a support set starts, over sessions of
many ways, shots and kinds of classes. A query of a class that was not taught takes no part in the fit; it is
only counted afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from model.errors import EpisodeImpossible
from model.training.episodes import EpisodeSampler, classes_with_enough
from model.training.open_set import BestScores, UnknownResult, draw_best_scores, judge_thresholds
from model.training.scorers import ThresholdScorer
from model.unknown import TERMS, SessionStatistics, UnknownRule

KNOWN_KEPT = 0.90
"""Share of the queries of taught classes that the rule keeps"""
WAYS = (1, 2, 3, 5, 8, 12, 20)
SHOTS = (1, 2, 5, 10)
QUERIES = 2
"""Queries of each class in an episode"""

ROUNDS = 300
LARGEST_SMOOTHING, SMALLEST_SMOOTHING = 1.0, 1e-4
"""In the first and in the last round, residuals count as larger by this part of the scores' deviation"""
RIDGE = 1e-8
"""Keeps the coefficient of a term that is always 0 at 0, and shares one among equal terms"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RuleFit:
    """A fitted rule, and what it does in the sessions that it was fitted on."""

    rule: UnknownRule
    results: tuple[UnknownResult, ...]
    """One for each way and shot, in ascending order"""

    def summary(self) -> dict[str, object]:
        """Ready for JSON."""
        return {
            "rule": self.rule.model_dump(),
            "results": [result.summary() for result in self.results],
        }


def session_samplers(
    kinds: Iterable[npt.NDArray[np.str_]],
    *,
    ways: Sequence[int] = WAYS,
    shots: Sequence[int] = SHOTS,
    query: int = QUERIES,
    groups: npt.NDArray[np.str_] | None = None,
    persons: npt.NDArray[np.str_] | None = None,
) -> list[EpisodeSampler]:
    """A sampler for each way and shot that each kind of classes has enough images for.

    Args:
        kinds: each the labels (images,) of the same images, "" for one that is in no class.
        ways: how many classes are taught; each sampler draws one more.
        query, groups, persons: as of EpisodeSampler.
    Raises: EpisodeImpossible if no kind has enough for any way and shot.
    """
    samplers = []
    for labels in kinds:
        for shot in shots:
            classes = classes_with_enough(labels, shot=shot, query=query, groups=groups, persons=persons)
            for way in ways:
                try:
                    samplers.append(
                        EpisodeSampler(
                            labels,
                            classes=classes,
                            way=way + 1,
                            shot=shot,
                            query=query,
                            groups=groups,
                            persons=persons,
                        )
                    )
                except EpisodeImpossible:
                    continue
    if not samplers:
        raise EpisodeImpossible(
            f"no classes have the {min(shots) + query} images each that fitting `unknown_below` needs"
        )
    return samplers


def fit_unknown_rule(
    scorer: ThresholdScorer,
    samplers: Sequence[EpisodeSampler],
    *,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RuleFit:
    """Fit the rule on episodes of every sampler; each sampler weighs the same, whatever its queries.

    Args:
        scorer: over held-out images.
        samplers: each of one class more than is taught and of equal queries, as from `session_samplers`.
        episodes: of each sampler.
        progress: called with (episodes done, in all).
    """
    drawn: list[tuple[BestScores, list[SessionStatistics]]] = []
    for number, sampler in enumerate(samplers):
        best = draw_best_scores(scorer, sampler, episodes=episodes, seed=seed + number)
        drawn.append((best, scorer.statistics(best.support)))
        progress(episodes * (number + 1), episodes * len(samplers))
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
    """Coefficients for sessions with the best scores of their known queries; zeros without sessions."""
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
    """Coefficients (terms,) of the quantile of scores as a sum of terms, by iterated least squares.

    Hunter and Lange, "Quantile regression via an MM algorithm", J. Comput. Graph. Stat. 2000. Every session
    weighs the same, however many scores it has.

    Args:
        terms: (sessions, terms).
        scores: of each session, of any number.
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
    """What the rule does by way and shot, over the kinds of classes together."""
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
