from __future__ import annotations

import math

import numpy as np
import pydantic
import pytest
import torch
from torch import Tensor

from model.unknown import SessionStatistics, UnknownRule, describe_session

TERMS = ("constant", "log way", "inverse shots", "has own", "own", "has rival", "rival")


def rule(**coefficients: float) -> UnknownRule:
    """A rule of the named terms; underscores stand for blanks."""
    named = {name.replace("_", " "): value for name, value in coefficients.items()}
    assert named.keys() <= set(TERMS)
    return UnknownRule(coefficients=tuple(named.get(term, 0.0) for term in TERMS))


def statistics(
    way: int = 3, inverse_shots: float = 0.25, own: float | None = 0.8, rival: float | None = 0.4
) -> SessionStatistics:
    return SessionStatistics(way=way, inverse_shots=inverse_shots, own=own, rival=rival)


def test_a_threshold_is_the_sum_of_the_terms() -> None:
    every = rule(
        constant=0.1, log_way=0.02, inverse_shots=0.04, has_own=0.03, own=0.1, has_rival=0.01, rival=0.2
    )
    expected = 0.1 + 0.02 * math.log(3) + 0.04 * 0.25 + 0.03 + 0.1 * 0.8 + 0.01 + 0.2 * 0.4
    assert every.threshold(statistics()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("coefficients", "lower", "higher"),
    [
        ({"constant": 0.1, "log_way": 0.1}, {"way": 2}, {"way": 20}),
        ({"constant": 0.5, "log_way": -0.1}, {"way": 20}, {"way": 2}),
        ({"constant": 0.1, "inverse_shots": 0.2}, {"inverse_shots": 0.1}, {"inverse_shots": 1.0}),
        ({"constant": 0.1, "own": 0.5}, {"own": 0.3}, {"own": 0.9}),
        ({"constant": 0.1, "rival": 0.5}, {"rival": 0.3}, {"rival": 0.9}),
        ({"constant": 0.1, "has_own": 0.2}, {"own": None}, {"own": 0.0}),
        ({"constant": 0.1, "has_rival": 0.2}, {"rival": None}, {"rival": 0.0}),
    ],
)
def test_a_threshold_rises_and_falls_as_the_rule_says(
    coefficients: dict[str, float], lower: dict[str, float], higher: dict[str, float]
) -> None:
    found = rule(**coefficients)
    assert 0 < found.threshold(statistics(**lower)) < found.threshold(statistics(**higher)) < 1  # type: ignore[arg-type]


def test_a_missing_statistic_has_no_term() -> None:
    alone = statistics(way=1, inverse_shots=1.0, own=None, rival=None)
    assert rule(constant=0.4, own=9, has_own=9, rival=9, has_rival=9, log_way=9).threshold(alone) == 0.4


@pytest.mark.parametrize(("constant", "threshold"), [(-3.0, 0.0), (3.0, 1.0)])
def test_a_threshold_lies_between_0_and_1(constant: float, threshold: float) -> None:
    assert rule(constant=constant).threshold(statistics()) == threshold


@pytest.mark.parametrize("count", [0, 6, 8])
def test_a_rule_has_one_coefficient_a_term(count: int) -> None:
    with pytest.raises(pydantic.ValidationError):
        UnknownRule(coefficients=(0.1,) * count)


@pytest.mark.parametrize("coefficient", [math.nan, math.inf, -math.inf])
def test_a_rule_has_finite_coefficients(coefficient: float) -> None:
    with pytest.raises(pydantic.ValidationError):
        rule(constant=coefficient)


WEIGHTS = {"cosine": 2.0, "geometry": 0.5}


def descriptions(examples: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "cosine": torch.randn(examples, 8, generator=generator),
        "geometry": torch.randn(examples, 5, generator=generator),
    }


def scores_by_loops(described: dict[str, Tensor], classes: list[int]) -> tuple[list[float], list[float]]:
    """For each example its score with its class's other examples, and with the best other class."""
    own, rival = [], []
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
            own.append(float(by_class[label]))
        others = [float(score) for other, score in by_class.items() if other != label]
        if others:
            rival.append(max(others))
    return own, rival


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 1, 2], [2, 0, 1, 0, 2, 2], [0, 1], [0, 0, 0], [0]])
def test_statistics_are_means_over_the_examples(classes: list[int]) -> None:
    described = descriptions(len(classes))
    found = describe_session(described, np.array(classes), WEIGHTS)
    own, rival = scores_by_loops(described, classes)
    shots = np.bincount(classes)
    assert found.way == len(shots)
    assert found.inverse_shots == pytest.approx(np.mean(1 / shots))
    assert found.own == (pytest.approx(np.mean(own), abs=1e-6) if own else None)
    assert found.rival == (pytest.approx(np.mean(rival), abs=1e-6) if rival else None)


def test_one_class_has_no_rival_and_one_shot_has_no_own() -> None:
    one_class = describe_session(descriptions(4), np.zeros(4, dtype=np.int64), WEIGHTS)
    assert one_class.rival is None
    assert one_class.own is not None
    one_shot = describe_session(descriptions(4), np.arange(4), WEIGHTS)
    assert one_shot.own is None
    assert one_shot.rival is not None


def test_classes_that_are_more_alike_have_a_higher_rival_score() -> None:
    classes = np.repeat(np.arange(3), 4)
    centers = torch.eye(3)[classes]

    def found(common: float) -> SessionStatistics:
        return describe_session({"cosine": centers + common}, classes, {"cosine": 1.0})

    apart, alike = found(0.0), found(1.0)
    assert apart.rival is not None
    assert alike.rival is not None
    assert apart.rival == pytest.approx(0.5)
    assert alike.rival > apart.rival + 0.2
    assert apart.own == alike.own == pytest.approx(1.0)


def test_a_network_without_added_parts_has_statistics_too() -> None:
    found = describe_session({}, np.array([0, 0, 1]), {})
    assert found.way == 2
    assert found.inverse_shots == pytest.approx(0.75)
    assert all(math.isfinite(term) for term in found.vector())
