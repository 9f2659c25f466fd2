"""The training loop on two processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor, nn

from model.training.loop import Progress, Stage, rank_and_world, run_stage

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


def draw_share(rng: np.random.Generator) -> tuple[Tensor, ...]:
    """This process's share of the same eight samples."""
    rank, world = rank_and_world()
    return INPUTS[rank::world], TARGETS[rank::world]


def trained(
    folder: Path,
    ema_decay: float = 0.5,
    measure: Callable[[nn.Module], float] = lambda learner: 0.0,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Tensor:
    stage = Stage(
        name="regression",
        fingerprint="",
        steps=20,
        learner=Regression(),
        draw=draw_share,
        measure=measure,
        learning_rate=0.1,
        weight_decay=0.0,
        ema_decay=ema_decay,
        bfloat16=False,
    )
    device = torch.device("cpu")
    learner = run_stage(stage, folder, seed=0, device=device, save_every=7, progress=progress)
    return learner.get_parameter("linear.weight").detach()


def test_the_average_with_the_best_held_out_accuracy_is_kept_across_a_stop(tmp_path: Path) -> None:
    measured: list[Tensor] = []

    def measure(learner: nn.Module) -> float:
        measured.append(learner.get_parameter("linear.weight").detach().clone())
        return (0.5, 0.9, 0.7)[len(measured) - 1]

    def stop(progress: Progress) -> None:
        if progress.step == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, measure=measure, progress=stop)
    kept = trained(tmp_path, measure=measure)
    assert len(measured) == 3, "at steps 7, 14 and 20"
    assert torch.equal(kept, measured[1])


def train_share(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    torch.save(trained(Path(folder) / "run"), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_processes_learn_what_one_learns_from_both_shares(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(  # type: ignore[attr-defined, no-untyped-call]
        train_share, args=(str(tmp_path),), nprocs=2
    )
    alone = trained(tmp_path / "alone")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / str(rank)), alone)


def test_the_moving_average_leaves_the_untrained_start_behind(tmp_path: Path) -> None:
    def trained_by(decay: float) -> Tensor:
        return trained(tmp_path / str(decay), ema_decay=decay)

    untrained = Regression().linear.weight.detach()
    last = trained_by(0.0)
    slow = trained_by(0.999)
    assert (slow - last).norm() < 0.5 * (untrained - last).norm()
    assert not torch.equal(slow, last)
