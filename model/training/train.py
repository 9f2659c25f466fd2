"""Train CSRN weights in stages: geometry, warm-up of the encoder, episodes, rule of the threshold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from model.networks.csrn import VoteHeads
from model.training.inputs import TrainInputs, TrainSettings
from model.training.loop import Progress, Stage, run_stage
from model.training.objectives import WarmUp
from model.training.prepared import PreparedImages
from model.training.stages import episode_stage, fit_pooled_maps, fit_rule, geometry_stage, warm_up
from model.training.teacher import require_teacher_of


def train(
    images: PreparedImages,
    out: Path,
    settings: TrainSettings,
    *,
    trained_on: str,
    run_folder: Path,
    teacher: Path | None = None,
    device: torch.device | str = "cpu",
    save_every: int = 250,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train on `images` and write weights to `out`; resumes an interrupted run in `run_folder`.

    If the folder was prepared with blendshapes, the blendshape network is trained first. Then the encoder
    learns to predict labels, votes and geometry, and a teacher's feature maps if there is a teacher. Then the
    encoder is frozen, and the relation module learns from episodes. Each stage returns the moving average
    with the best accuracy on held-out images of the training classes. The rule for a session's threshold is
    fitted on held-out images too.

    Raises: EpisodeImpossible; DatasetInvalid; CheckpointInvalid; RunMismatch if run_folder holds a run with
        other images or settings.
    """
    guide = None if teacher is None else load_checkpoint(teacher, device=device)
    if guide is not None:
        require_teacher_of(guide, settings.classes)
        settings = dataclasses.replace(settings, teacher_sha256=guide.sha256)
    inputs = TrainInputs.of(images, settings, torch.device(device))
    torch.manual_seed(settings.seed)
    network = inputs.config.build_network()

    def run(stage: Stage) -> nn.Module:
        return run_stage(
            stage,
            run_folder,
            seed=settings.seed,
            device=inputs.device,
            save_every=save_every,
            progress=progress,
        )

    if network.geometry is not None:
        trained = run(geometry_stage(network, inputs))
        network.geometry.load_state_dict(trained.network.state_dict())  # type: ignore[union-attr]
    if settings.warmup_steps:
        warmed = warm_up(network, inputs, guide, run)
        network.encoder.load_state_dict(warmed.encoder.state_dict())
        if network.votes is not None:
            _copy_heads(network.votes, warmed)
    fit_pooled_maps(network, inputs)
    network = run(episode_stage(network, inputs)).network  # type: ignore[assignment]

    fit = fit_rule(network, inputs)
    provenance = Provenance(
        trained_on=trained_on,
        recipe={
            **dataclasses.asdict(settings),
            "save_every": save_every,
            "images": len(inputs.trained),
            "torch": torch.__version__,
        },
        evaluation={"unknown": fit.summary()},
    )
    config = inputs.config.model_copy(update={"unknown_rule": fit.rule})
    save_checkpoint(out, network, config=config, provenance=provenance)


def _copy_heads(votes: VoteHeads, warmed: WarmUp) -> None:
    """Copy the heads that predict labels and votes from the warm-up."""
    with torch.no_grad():
        for copy, heads in zip(votes.parts, warmed.class_heads(), strict=True):
            assert isinstance(copy, nn.Linear)
            copy.weight.copy_(torch.cat([head.weight for head in heads]))
            copy.bias.copy_(torch.cat([head.bias for head in heads]))
