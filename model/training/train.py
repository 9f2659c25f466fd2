"""Train CSRN weights: geometry, warm-up of the encoder, episodes, the rule of the threshold, checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model.checkpoint import Provenance, load_checkpoint, save_checkpoint
from model.networks.relation import VoteHeads
from model.training.calibrate import RuleFit
from model.training.inputs import TrainInputs, TrainSettings
from model.training.loop import Progress, Stage, rank_and_world, run_stage
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
) -> RuleFit:
    """Train on `images` and write weights to `out`; resumes an interrupted run in `run_folder`.

    With blendshapes prepared, the blendshape network learns first. Then the encoder learns to predict
    labels, votes and geometry, and what a teacher's encoder says, if there is a teacher; then it is kept,
    and the relation module learns from episodes. Of the moving averages along the way, the one that does
    best on held-out images of the training classes is taken. The rule for a session's threshold is fitted on
    held-out images too. Under torchrun each process takes its share of every batch.

    Raises: EpisodeImpossible; DatasetInvalid; CheckpointInvalid; RunMismatch if run_folder holds a run on
        other images or settings.
    """
    guide = None if teacher is None else load_checkpoint(teacher, device=device)
    if guide is not None:
        require_teacher_of(guide, settings.classes)
    settings = dataclasses.replace(settings, teacher_sha256=None if guide is None else guide.sha256)
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
        learnt = run(geometry_stage(network, inputs))
        network.geometry.load_state_dict(learnt.network.state_dict())  # type: ignore[union-attr]
    if settings.warmup_steps:
        warmed = warm_up(network, inputs, guide, run)
        network.encoder.load_state_dict(warmed.encoder.state_dict())
        if network.votes is not None:
            _keep_heads(network.votes, warmed)
    fit_pooled_maps(network, inputs)
    network = run(episode_stage(network, inputs)).network  # type: ignore[assignment]

    fit = fit_rule(network, inputs)
    if rank_and_world()[0] == 0:
        provenance = Provenance(
            trained_on=trained_on,
            recipe={
                **dataclasses.asdict(settings),
                "save_every": save_every,
                "processes": rank_and_world()[1],
                "images": len(inputs.trained),
                "torch": torch.__version__,
            },
            evaluation={"unknown": fit.summary()},
        )
        config = inputs.config.model_copy(update={"unknown_rule": fit.rule})
        save_checkpoint(out, network, config=config, provenance=provenance)
    return fit


def _keep_heads(votes: VoteHeads, warmed: WarmUp) -> None:
    """Copy the heads that predict labels and votes from the warm-up."""
    with torch.no_grad():
        for kept, heads in zip(votes.parts, warmed.class_heads(), strict=True):
            assert isinstance(kept, nn.Linear)
            kept.weight.copy_(torch.cat([head.weight for head in heads]))
            kept.bias.copy_(torch.cat([head.bias for head in heads]))
