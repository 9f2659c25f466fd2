"""Run by torchrun: fit a regression in shares, then run `csrn train` with the other arguments.

torchrun --nproc-per-node 2 -m tests.support.two_processes FOLDER train DATA ...
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed
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
    """This process's share of the eight rows."""
    rank, world = rank_and_world()
    return INPUTS[rank::world], TARGETS[rank::world]


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


if __name__ == "__main__":
    from app.cli import main
    from tests.support.training import small_training

    folder = Path(sys.argv.pop(1))
    # csrn needs torchrun's own meeting point for itself.
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=int(os.environ["RANK"]), world_size=2
    )
    torch.save(fit_regression(folder / "regression"), folder / f"{rank_and_world()[0]}.pt")
    torch.distributed.destroy_process_group()
    with small_training():
        main()
