"""Train CSRN weights by episodes. Reads top to bottom: settings, data, network, loop, result."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from model.checkpoint import (
    CheckpointConfig,
    PartWeights,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from model.classifier import Classifier
from model.errors import DatasetInvalid
from model.network import CSRN, score_episode
from model.training.augment import augment
from model.training.episodes import Episode, EpisodeSampler
from model.training.evaluate import evaluate
from model.training.prepare import PreparedImages


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides what comes out, besides the data."""

    classes: tuple[str, ...]
    way: int = 4
    shot: int = 4
    query: int = 4
    steps: int = 2500
    episodes_per_step: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    label_weight: float = 0.5
    """Weight of the supervised cross-entropy that teaches the encoder beside the relation scores"""
    ema_decay: float = 0.998
    held_out: float = 0.05
    """Share of each class's images that is never trained on, for the curves only"""
    bfloat16: bool = True
    seed: int = 0

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a run, for whoever shows it."""

    step: int
    steps: int
    loss: float
    accuracy: float
    """Share of this step's queries whose class scored best"""
    held_out_accuracy: float | None


class LabelHead(nn.Module):
    """Supervised head on the feature maps of the three parts, used in training only."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.linear = nn.Linear(3 * 64 * 16, classes)

    def forward(self, features: Tensor) -> Tensor:
        """(images, 3 parts, 64, 14, 14) to logits (images, classes)."""
        logits: Tensor = self.linear(self.pool(features.flatten(0, 1)).reshape(len(features), -1))
        return logits


def train(
    images: PreparedImages,
    out: Path,
    settings: TrainSettings,
    *,
    trained_on: str,
    run_folder: Path,
    device: torch.device | str = "cpu",
    save_every: int = 200,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train on `images` and write the weights' moving average to `out`.

    A run that was stopped goes on from its last saved state in `run_folder`. Every step draws from
    a generator seeded with (seed, step), so going on gives what an unbroken run would have given.
    The last weights are taken as they are: no checkpoint is chosen by any accuracy.

    Raises: EpisodeImpossible; DatasetInvalid if run_folder holds a run with other settings.
    """
    labels = np.array(
        [settings.classes.index(label) if label in settings.classes else -1 for label in images.labels]
    )
    held_out = _split_held_out(labels, settings)
    trained = np.flatnonzero((labels >= 0) & ~held_out)
    episode_shape = {"way": settings.way, "shot": settings.shot, "query": settings.query}
    sampler = EpisodeSampler(images.labels[trained], classes=settings.classes, **episode_shape)

    torch.manual_seed(settings.seed)
    network = CSRN()
    head = LabelHead(len(settings.classes))
    learner = nn.ModuleDict({"network": network, "head": head})
    learner.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    moving_average = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=moving_average, use_buffers=True)
    averaged: CSRN = average.module  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _learning_rate_factor(step, settings.steps)
    )
    parts = {"learner": learner, "average": average, "optimizer": optimizer, "schedule": schedule}
    first_step = _load_state(run_folder, parts, settings)
    provenance = Provenance(
        trained_on=trained_on,
        recipe={
            **dataclasses.asdict(settings),
            "images": len(trained),
            "torch": torch.__version__,
        },
    )

    def save_weights() -> None:
        save_checkpoint(out, averaged, config=CheckpointConfig(), provenance=provenance)

    with SummaryWriter(str(run_folder)) as curves:
        for step in range(first_step, settings.steps):
            rng = np.random.default_rng((settings.seed, step))
            episodes = [sampler.draw(rng) for _ in range(settings.episodes_per_step)]
            learner.train()
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=settings.bfloat16):
                loss, accuracy = _step_loss(
                    network, head, images.patches, labels, trained, episodes, settings, rng, device
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(network)

            done = step + 1
            held_out_accuracy = None
            if done % save_every == 0 or done == settings.steps:
                _save_state(run_folder, parts, settings, done)
                save_weights()
                held_out_accuracy = _held_out_accuracy(out, images, held_out, settings, device)
                curves.add_scalar("held_out/accuracy", held_out_accuracy, done)
            curves.add_scalar("train/loss", loss.item(), done)
            curves.add_scalar("train/accuracy", accuracy, done)
            progress(
                Progress(
                    step=done,
                    steps=settings.steps,
                    loss=loss.item(),
                    accuracy=accuracy,
                    held_out_accuracy=held_out_accuracy,
                )
            )
    # Also where an earlier run had finished: the weights are there when this returns.
    save_weights()


def _step_loss(
    network: CSRN,
    head: LabelHead,
    patches: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    trained: npt.NDArray[np.int64],
    episodes: list[Episode],
    settings: TrainSettings,
    rng: np.random.Generator,
    device: torch.device | str,
) -> tuple[Tensor, float]:
    """Loss of a batch of episodes: the paper's objective, and the supervised term beside it.

    The paper's objective is the mean squared error of the relation scores of face, eyes and lips,
    plus 0.7 times that of the selected prototypes, against 1 for the query's class and 0 otherwise.
    """
    index = np.stack([np.concatenate([e.support, e.query], axis=1) for e in episodes])
    chosen = trained[index.ravel()]
    pixels = augment(patches[chosen], torch.Generator().manual_seed(int(rng.integers(2**62))))
    pixels = pixels.to(device)
    features = network.encoder(pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    features = features.unflatten(0, (len(chosen), 3))
    targets = torch.from_numpy(labels[chosen]).to(device)
    label_loss = nn.functional.cross_entropy(head(features).float(), targets)

    weights = PartWeights()
    by_episode = features.unflatten(0, index.shape)
    truth = torch.eye(settings.way, device=device).repeat_interleave(settings.query, dim=0)
    losses, hits = [], []
    for maps in by_episode:
        scores = score_episode(
            network.relation, maps[:, : settings.shot], maps[:, settings.shot :].flatten(0, 1)
        )
        pair_errors = (scores.pairs.float() - truth[:, :, None, None]).square().mean(dim=(0, 1, 2))
        prototype_error = (scores.prototypes.float() - truth).square().mean()
        losses.append(
            weights.face * pair_errors[0]
            + weights.eyes * pair_errors[1]
            + weights.lips * pair_errors[2]
            + weights.prototype * prototype_error
        )
        totals = scores.pairs.mean(dim=2).sum(dim=-1) + weights.prototype * scores.prototypes
        hits.append((totals.argmax(dim=1) == truth.argmax(dim=1)).float().mean().item())
    relation_loss = torch.stack(losses).mean()
    return relation_loss + settings.label_weight * label_loss, float(np.mean(hits))


def _split_held_out(labels: npt.NDArray[np.int64], settings: TrainSettings) -> npt.NDArray[np.bool_]:
    """(images,) true for a seeded share of each class's images, at least enough for an episode."""
    rng = np.random.default_rng(settings.seed)
    held_out = np.zeros(len(labels), dtype=bool)
    for label in range(len(settings.classes)):
        images = np.flatnonzero(labels == label)
        count = max(round(len(images) * settings.held_out), settings.shot + 1)
        held_out[rng.permutation(images)[:count]] = True
    return held_out


def _held_out_accuracy(
    weights: Path,
    images: PreparedImages,
    held_out: npt.NDArray[np.bool_],
    settings: TrainSettings,
    device: torch.device | str,
) -> float:
    return evaluate(
        Classifier(load_checkpoint(weights, device=device)),
        images.select(held_out),
        classes=settings.classes,
        way=settings.way,
        shot=settings.shot,
        query=1,
        episodes=200,
        seed=settings.seed,
    ).accuracy


def _learning_rate_factor(step: int, steps: int) -> float:
    """Linear rise over the first 5% of the steps, then a cosine down to zero."""
    rise = max(steps // 20, 1)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def _save_state(run_folder: Path, parts: dict[str, Any], settings: TrainSettings, step: int) -> None:
    state = {name: part.state_dict() for name, part in parts.items()}
    partial = run_folder / "state.pt.partial"
    torch.save({"step": step, "settings": settings.fingerprint(), **state}, partial)
    partial.replace(run_folder / "state.pt")


def _load_state(run_folder: Path, parts: dict[str, Any], settings: TrainSettings) -> int:
    """Load the last saved state into `parts`; returns the step to go on with."""
    run_folder.mkdir(parents=True, exist_ok=True)
    path = run_folder / "state.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["settings"] != settings.fingerprint():
        raise DatasetInvalid(
            f"{run_folder} holds a run with other settings: remove it, or name another run folder"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])
