from __future__ import annotations

import math

import numpy as np
import pydantic
import pytest
import torch
from torch import Tensor

from model.unknown import LOW_QUANTILE, RIVAL_SHARE, SessionStatistics, UnknownRule, describe_session

RULE = UnknownRule(several=(-0.1, 0.02, -0.04, 0.03), single=(0.1, 0.03, 0.05, 0.2))


def statistics(
    way: int = 3, inverse_shots: float = 0.25, low: float | None = 0.8, rival: float | None = 0.4
) -> SessionStatistics:
    return SessionStatistics(way=way, inverse_shots=inverse_shots, low=low, rival=rival)


def test_with_several_examples_per_class_the_threshold_starts_at_their_low_scores() -> None:
    for low in (0.6, 0.8):
        expected = low - 0.1 + 0.02 * math.log(3) - 0.04 * 0.25
        assert RULE.threshold(statistics(low=low)) == pytest.approx(expected)
    assert RULE.threshold(statistics(way=1, rival=None)) == pytest.approx(0.8 - 0.1 - 0.04 * 0.25 + 0.03)


def test_with_one_example_per_class_the_threshold_follows_the_other_classes() -> None:
    expected = RIVAL_SHARE * 0.4 + 0.1 + 0.03 * math.log(3) + 0.05
    assert RULE.threshold(statistics(inverse_shots=1, low=None)) == pytest.approx(expected)


def test_one_example_of_one_class_has_a_threshold_of_its_own() -> None:
    alone = statistics(way=1, inverse_shots=1, low=None, rival=None)
    assert RULE.threshold(alone) == pytest.approx(0.1 + 0.05 + 0.2)


@pytest.mark.parametrize(("constant", "threshold"), [(-3.0, 0.0), (3.0, 1.0)])
def test_a_threshold_lies_between_0_and_1(constant: float, threshold: float) -> None:
    rule = RULE.model_copy(update={"several": (constant, 0, 0, 0)})
    assert rule.threshold(statistics()) == threshold


@pytest.mark.parametrize(
    "coefficients", [(), (0.1,) * 3, (0.1,) * 5, *((bad, 0, 0, 0) for bad in (math.nan, math.inf, -math.inf))]
)
def test_a_rule_has_one_finite_coefficient_per_term(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(pydantic.ValidationError):
        UnknownRule(several=coefficients, single=(0, 0, 0, 0))


WEIGHTS = {"cosine": 2.0, "geometry": 0.5}


def descriptions(examples: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "cosine": torch.randn(examples, 8, generator=generator),
        "geometry": torch.randn(examples, 5, generator=generator),
    }


def scores_by_loops(described: dict[str, Tensor], classes: list[int]) -> tuple[list[float], list[float]]:
    """Best score of each example that has others in its class; score with the best other class of each."""
    best, rival = [], []
    for index, label in enumerate(classes):
        by_class = {}
        for other in sorted(set(classes)):
            members = [i for i, c in enumerate(classes) if c == other and i != index]
            if members:
                cosines = {
                    part: torch.cosine_similarity(found[index], found[members].mean(0), dim=0)
                    for part, found in described.items()
                }
                weighted = sum(weight * (1 + cosines[part]) / 2 for part, weight in WEIGHTS.items())
                by_class[other] = weighted / sum(WEIGHTS.values())
        if label in by_class:
            best.append(float(max(by_class.values())))
        others = [float(score) for other, score in by_class.items() if other != label]
        if others:
            rival.append(max(others))
    return best, rival


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 1, 2], [2, 0, 1, 0, 2, 2], [0, 1], [0, 0, 0], [0]])
def test_each_example_is_scored_by_the_others(classes: list[int]) -> None:
    described = descriptions(len(classes))
    found = describe_session(described, np.array(classes), WEIGHTS)
    best, rival = scores_by_loops(described, classes)
    shots = np.bincount(classes)
    assert found.way == len(shots)
    assert found.inverse_shots == pytest.approx(np.mean(1 / shots))
    low = np.quantile(best, LOW_QUANTILE) if best else None
    assert found.low == (pytest.approx(low, abs=1e-6) if best else None)
    assert found.rival == (pytest.approx(np.mean(rival), abs=1e-6) if rival else None)


def test_a_network_without_added_parts_has_statistics_too() -> None:
    found = describe_session({}, np.array([0, 0, 1]), {})
    assert found.way == 2
    assert found.inverse_shots == pytest.approx(0.75)
    assert all(math.isfinite(term) for term in found.terms())
    assert found.start == 0.0
