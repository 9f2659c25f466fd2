from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.training.loop import Progress
from tests.support.two_processes import Regression, fit_regression


def test_the_average_with_the_best_held_out_accuracy_is_kept_across_an_interruption(tmp_path: Path) -> None:
    measured: list[Tensor] = []

    def measure(learner: nn.Module) -> float:
        measured.append(learner.get_parameter("linear.weight").detach().clone())
        return (0.5, 0.9, 0.7)[len(measured) - 1]

    def stop(progress: Progress) -> None:
        if progress.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_regression(tmp_path, measure=measure, progress=stop)
    kept = fit_regression(tmp_path, measure=measure)
    assert len(measured) == 3, "at steps 7, 14 and 20"
    assert torch.equal(kept, measured[1])


def test_the_moving_average_leaves_the_untrained_start_behind(tmp_path: Path) -> None:
    untrained = Regression().linear.weight.detach()
    last, slow = (fit_regression(tmp_path / str(decay), ema_decay=decay) for decay in (0.0, 0.999))
    assert (slow - last).norm() < 0.5 * (untrained - last).norm()
    assert not torch.equal(slow, last)
