from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.training.loop import Progress, Stage, run_stage

INPUTS = torch.linspace(-1, 1, 24).reshape(8, 3)
TARGETS = INPUTS.square().sum(dim=1, keepdim=True)


class Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 1)

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        loss = (self.linear(inputs) - targets).square().mean()
        return loss, loss.detach()


def fit_regression(
    folder: Path,
    ema_decay: float = 0.5,
    measure: Callable[[nn.Module], float] = lambda learner: 0.0,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    """Train a stage of 20 steps and return the weights of its best average."""
    stage = Stage(
        name="regression",
        fingerprint="",
        steps=20,
        learner=Regression(),
        draw=lambda rng: (INPUTS, TARGETS),
        measure=measure,
        learning_rate=0.1,
        weight_decay=0.0,
        ema_decay=ema_decay,
        bfloat16=False,
    )
    learner = run_stage(stage, folder, seed=0, device=torch.device("cpu"), save_every=7, progress=progress)
    return learner.get_parameter("linear.weight").detach()


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
