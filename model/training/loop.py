"""The training loop of one stage: AdamW with a moving average, resumable."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from model.errors import RunMismatch

RISE = 0.05
"""Share of the steps over which the learning rate rises"""
MAX_GRADIENT_NORM = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage trains, its batches, and its measure."""

    name: str
    fingerprint: str
    """Identifies the images and settings that determine the result"""
    steps: int
    learner: nn.Module
    """Takes a batch from `draw` and returns its loss and accuracy"""
    draw: Callable[[np.random.Generator], tuple[Any, ...]]
    """Draws a batch from the generator alone"""
    measure: Callable[[nn.Module], float]
    """Accuracy of a learner on held-out images of the training classes"""
    learning_rate: float
    weight_decay: float
    ema_decay: float
    bfloat16: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run, for display."""

    stage: str
    step: int
    steps: int
    loss: float
    accuracy: float
    """Share of this step's images (or queries) that are classified correctly"""
    held_out_accuracy: float | None


def run_stage(
    stage: Stage,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
    save_every: int,
    progress: Callable[[Progress], None],
) -> nn.Module:
    """Train a stage to its end, and return the moving average with the best held-out accuracy.

    An interrupted run resumes from its last saved state in `folder`. Every step draws from a generator seeded
    with (seed, step), so a resumed run gives the same result as an uninterrupted one.

    Raises: RunMismatch if `folder` holds this stage of a run with other images or settings.
    """
    stage.learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(stage.learner, multi_avg_fn=_moving_average(stage.ema_decay), use_buffers=True)
    trained = [parameter for parameter in stage.learner.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=stage.learning_rate, weight_decay=stage.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_factor(step, stage.steps))
    parts = {"learner": stage.learner, "average": average, "optimizer": optimizer, "schedule": schedule}
    # The result also depends on which averages are measured.
    fingerprint = f"{stage.fingerprint}, measured every {save_every} steps"
    state = _RunState(folder / f"{stage.name}.pt", fingerprint, parts)
    first_step = state.load()

    with SummaryWriter(str(folder / stage.name), purge_step=first_step + 1) as curves:
        for step in range(first_step, stage.steps):
            rng = np.random.default_rng((seed, step))
            batch = stage.draw(rng)
            torch.manual_seed(int(rng.integers(2**62)))  # for dropout
            batch = tuple(item.to(device) if isinstance(item, Tensor) else item for item in batch)
            stage.learner.train()
            with torch.autocast(device.type, torch.bfloat16, enabled=stage.bfloat16):
                loss, accuracy = stage.learner(*batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            average.update_parameters(stage.learner)

            done, held_out_accuracy = step + 1, None
            if done % save_every == 0 or done == stage.steps:
                held_out_accuracy = stage.measure(average.module.eval())
                state.save(done, held_out_accuracy)
            shown = Progress(
                stage=stage.name,
                step=done,
                steps=stage.steps,
                loss=loss.item(),
                accuracy=accuracy.item(),
                held_out_accuracy=held_out_accuracy,
            )
            curves.add_scalar("train/loss", shown.loss, done)
            curves.add_scalar("train/accuracy", shown.accuracy, done)
            curves.add_scalar("train/learning_rate", float(schedule.get_last_lr()[0]), done)
            if held_out_accuracy is not None:
                curves.add_scalar("held_out/accuracy", held_out_accuracy, done)
            progress(shown)
    best: nn.Module = average.module
    best.load_state_dict(state.best)
    return best.eval()


class _RunState:
    """A stage's state on disk: the last step and the best average so far. It is replaced atomically."""

    def __init__(self, path: Path, fingerprint: str, parts: dict[str, Any]) -> None:
        self._path, self._fingerprint, self._parts = path, fingerprint, parts
        self.best: dict[str, Tensor] = {}
        self._best_accuracy = -math.inf

    def load(self) -> int:
        """Load the last saved state into the parts, if there is one; returns the number of steps done."""
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return 0
        state = torch.load(self._path, weights_only=True, map_location="cpu")
        mismatch = RunMismatch(
            f"{self._path} belongs to a run on other images, with other settings or by another version: "
            "remove it, or choose another run folder"
        )
        if state["fingerprint"] != self._fingerprint:
            raise mismatch
        try:
            for name, part in self._parts.items():
                part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError):
            raise mismatch from None
        self.best, self._best_accuracy = state["best"], state["best_accuracy"]
        return int(state["step"])

    def save(self, step: int, accuracy: float) -> None:
        if accuracy >= self._best_accuracy:
            average = self._parts["average"].module
            self.best = {name: tensor.cpu().clone() for name, tensor in average.state_dict().items()}
            self._best_accuracy = accuracy
        state = {
            "step": step,
            "fingerprint": self._fingerprint,
            "best": self.best,
            "best_accuracy": self._best_accuracy,
            **{name: part.state_dict() for name, part in self._parts.items()},
        }
        partial = self._path.with_name(self._path.name + ".partial")
        torch.save(state, partial)
        partial.replace(self._path)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential moving average whose decay rises, so that the untrained start soon has little weight."""

    def update(averaged: Any, current: Any, updates: Any) -> None:
        risen = min(decay, (1 + int(updates)) / (10 + int(updates)))
        get_ema_multi_avg_fn(risen)(averaged, current, updates)  # type: ignore[no-untyped-call]

    return update


def _rate_factor(step: int, steps: int) -> float:
    """Linear rise over the first steps, then a cosine down to zero."""
    rise = max(round(steps * RISE), 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
