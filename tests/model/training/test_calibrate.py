from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from model.classifier import Classifier
from model.errors import EpisodeImpossible
from model.training.calibrate import KNOWN_KEPT, fit_quantile, fit_unknown_rule, session_samplers
from model.training.episodes import EpisodeSampler
from model.training.evaluate import measure_unknown
from model.training.prepared import PreparedImages
from model.training.scorers import RelationScorer, encode_images
from model.unknown import SessionStatistics, UnknownRule
from tests.support.networks import full_checkpoint

TRUE_RULE = UnknownRule(several=(-0.1, 0.04, -0.08, 0.05), single=(0.2, 0.03, 0.1, 0.05))
LABELS = np.repeat(np.array([f"class {number}" for number in range(9)]), 12)


class LinearScorer:
    """Known queries whose 10 % quantile is the threshold of TRUE_RULE, and absent ones 0.05 lower.

    Best scores are spread evenly over 0.1 around it: a tenth lies below the threshold.
    """

    weights_sha256 = ""

    def __init__(self, *, absent: float = -0.05) -> None:
        """absent: added to the best scores of absent queries."""
        self._absent = absent
        self._rng = np.random.default_rng(0)

    def statistics(self, support: np.ndarray) -> list[SessionStatistics]:
        """Statistics that differ from session to session, as the images of a support set do."""
        _, way, shot = support.shape
        return [
            SessionStatistics(
                way=way,
                inverse_shots=1 / shot,
                low=None if shot == 1 else 0.6 + 0.3 * np.sin(images.sum()),
                rival=None if way == 1 else 0.4 + 0.3 * np.cos(images.sum()),
            )
            for images in support
        ]

    def thresholds(self, support: np.ndarray) -> Tensor:
        return torch.tensor([TRUE_RULE.threshold(found) for found in self.statistics(support)])

    def class_scores(self, support: np.ndarray, query: np.ndarray) -> Tensor:
        episodes, way = support.shape[:2]
        best = self.thresholds(support).double().numpy()[:, None] - 0.01
        best = best + 0.1 * self._rng.random(query.shape)
        is_known = (LABELS[query][:, :, None] == LABELS[support[:, :, 0]][:, None]).any(axis=2)
        best = np.where(is_known, best, best + self._absent)
        scores = torch.zeros(episodes, query.shape[1], way, dtype=torch.float64)
        scores[..., 0] = torch.from_numpy(best)
        return scores


def test_the_fit_recovers_a_linear_rule() -> None:
    samplers = session_samplers([LABELS], ways=(1, 2, 3, 5, 8), shots=(1, 2, 5, 10))
    assert len(samplers) == 5 * 4
    fit = fit_unknown_rule(LinearScorer(), samplers, episodes=200, seed=0)
    held_out = LinearScorer().statistics(np.random.default_rng(1).integers(0, 99, (50, 4, 3)))
    for session in held_out:
        assert fit.rule.threshold(session) == pytest.approx(TRUE_RULE.threshold(session), abs=0.002)
    # With one example a class, the constant and 1 / shots are one term.
    assert fit.rule.several == pytest.approx(TRUE_RULE.several, abs=0.01)
    assert fit.rule.single[1] == pytest.approx(TRUE_RULE.single[1], abs=0.01)


def test_nine_in_ten_known_queries_are_kept_in_every_setting() -> None:
    samplers = session_samplers([LABELS], ways=(1, 2, 5, 8), shots=(1, 3, 10))
    fit = fit_unknown_rule(LinearScorer(), samplers, episodes=1000, seed=0)
    assert [(result.way, result.shot) for result in fit.results] == [
        (way, shot) for way in (1, 2, 5, 8) for shot in (1, 3, 10)
    ]
    for result in fit.results:
        assert result.known_kept == pytest.approx(KNOWN_KEPT, abs=0.02)
        # Spread over 0.1 and 0.05 lower: from 0.06 below the threshold to 0.04 above it.
        assert result.absent_told == pytest.approx(0.6, abs=0.05)
        assert result.auroc == pytest.approx(1 - 0.5**2 / 2, abs=0.03)
    assert fit.summary()["rule"] == fit.rule.model_dump()


def test_a_kind_of_session_without_episodes_has_no_correction() -> None:
    samplers = session_samplers([LABELS], ways=(1,), shots=(1,))
    fit = fit_unknown_rule(LinearScorer(), samplers, episodes=200, seed=0)
    assert fit.rule.several == (0, 0, 0, 0)
    alone = SessionStatistics(way=1, inverse_shots=1, low=None, rival=None)
    assert fit.rule.threshold(alone) == pytest.approx(TRUE_RULE.threshold(alone), abs=0.002)


def test_the_same_seed_fits_the_same_rule() -> None:
    samplers = session_samplers([LABELS], ways=(2, 4), shots=(2,))
    first, again, other = (
        fit_unknown_rule(LinearScorer(), samplers, episodes=50, seed=seed).rule for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_quantile_of_a_constant_is_that_of_the_scores() -> None:
    scores = np.random.default_rng(0).normal(0.5, 0.1, 5001)
    for quantile in (0.1, 0.5, 0.9):
        (fitted,) = fit_quantile(np.ones((len(scores), 1)), scores[:, None].tolist(), quantile=quantile)
        assert fitted == pytest.approx(np.quantile(scores, quantile), abs=1e-3)


def test_all_sessions_have_the_same_weight_whatever_their_number_of_queries() -> None:
    """Scores of one session of two counts double; with equal weights the median would be 0.2."""
    sessions = [np.array([0.2] * 50), np.array([0.8]), np.array([0.8])]
    (fitted,) = fit_quantile(np.ones((3, 1)), sessions, quantile=0.5)
    assert fitted == pytest.approx(0.8, abs=1e-3)


def test_there_are_samplers_for_all_shapes_that_a_kind_of_classes_allows() -> None:
    few = np.where(LABELS < "class 3", LABELS, "")
    few[[0, 1, 2]] = ""  # Nine of class 0 are left.
    samplers = session_samplers([LABELS, few], ways=(1, 2, 8), shots=(2, 10), query=2)
    made = [(sampler.way - 1, sampler.shot, len(sampler.classes)) for sampler in samplers]
    assert made == [
        *((way, shot, 9) for shot in (2, 10) for way in (1, 2, 8)),
        *((way, 2, 3) for way in (1, 2)),
        (1, 10, 2),
    ]
    assert all("" not in sampler.classes for sampler in samplers)
    with pytest.raises(EpisodeImpossible, match="needs classes with 14 images each"):
        session_samplers([LABELS], shots=(12,), query=2)


def test_absent_queries_do_not_influence_the_fit() -> None:
    samplers = [EpisodeSampler(LABELS, classes=("class 0", "class 1"), way=2, shot=3, query=4)]
    plain, shifted = (
        fit_unknown_rule(LinearScorer(absent=absent), samplers, episodes=100, seed=0)
        for absent in (-0.05, 0.45)
    )
    assert plain.rule == shifted.rule
    assert plain.results[0].absent_told > 0.5 > shifted.results[0].absent_told == 0


def test_a_checkpoint_with_the_fitted_rule_repeats_the_results_of_the_fit(prepared: PreparedImages) -> None:
    checkpoint = full_checkpoint()
    features = encode_images(Classifier(checkpoint), prepared)
    (sampler,) = session_samplers([prepared.labels], ways=(3,), shots=(3,), groups=prepared.kin)
    fit = fit_unknown_rule(RelationScorer(Classifier(checkpoint), features), [sampler], episodes=40, seed=5)
    fitted = dataclasses.replace(
        checkpoint, config=checkpoint.config.model_copy(update={"unknown_rule": fit.rule})
    )
    result = measure_unknown(RelationScorer(Classifier(fitted), features), sampler, episodes=40, seed=5)
    (expected,) = fit.results
    assert dataclasses.asdict(result) == pytest.approx(dataclasses.asdict(expected), abs=0.005)
    assert result.known_kept == pytest.approx(KNOWN_KEPT, abs=0.02)
