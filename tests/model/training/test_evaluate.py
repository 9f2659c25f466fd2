from __future__ import annotations

import numpy as np
import pytest

from model.training.evaluate import BestScores, area_under_roc, judge_thresholds


def test_thresholds_are_judged_per_episode() -> None:
    best = BestScores(
        support=np.zeros((2, 3, 5), dtype=np.int64),
        known=np.array([[0.75, 0.5], [0.875, 0.5]]),
        absent=np.array([[0.5, 0.25], [0.625, 0.25]]),
    )
    result = judge_thresholds(best, np.array([0.5, 0.625]))
    # A query at the threshold is known. Margins in eighths: 2, 0, 2, -1 and 0, -2, 0, -3.
    assert (result.known_kept, result.absent_told, result.way, result.shot) == (0.75, 0.5, 3, 5)
    assert result.auroc == pytest.approx((4 + 3 + 4 + 2) / 16)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    rng = np.random.default_rng(0)
    higher, lower = rng.integers(2, 12, 300) / 10, rng.integers(0, 10, 200) / 10
    pairs = (higher[:, None] > lower) + 0.5 * (higher[:, None] == lower)
    assert area_under_roc(higher, lower) == pytest.approx(pairs.mean())
    assert area_under_roc(lower, lower) == pytest.approx(0.5)
    assert area_under_roc(lower + 1, lower) == 1.0
