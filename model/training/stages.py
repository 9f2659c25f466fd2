"""The stages of training, each from the inputs and the network so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.networks.relation import CSRN
from model.training.batches import LabelBatches, resize_patches
from model.training.calibrate import RuleFit, fit_unknown_rule, session_samplers
from model.training.evaluate import evaluate
from model.training.geometry import cluster_faces
from model.training.inputs import TrainInputs, digest
from model.training.learn_geometry import GeometryBatches, GeometryObjective
from model.training.loop import Stage, rank_and_world
from model.training.objectives import CLASS_WEIGHTS, EpisodeObjective, WarmUp
from model.training.scorers import ENCODE_BATCH, encode_images
from model.training.targets import build_targets, voted_names
from model.training.teacher import TeacherTargets, describe_by_teacher

DESCRIBED_IMAGES = 8000
"""How many training images give the pooled maps their mean, deviation and whitening"""
SHRINKAGE = 0.5
"""How far the covariance within classes is drawn towards a multiple of the identity"""
MEASURED_EPISODES = 1000
EPISODE_SETTINGS = ("steps", "way", "shot", "query", "episodes_per_step", "label_episodes", "votes_weight")
"""Settings that the warm-up does not depend on: runs that differ only in these can share one"""
RULE_CLUSTERS = (8, 24)
RULE_EPISODES = 15
"""Episodes of each way, shot and kind of classes that the rule of the threshold is fitted on"""
GEOMETRY_STEPS = 2500
SMALL_SHARE = 2 / 3


def geometry_stage(network: CSRN, inputs: TrainInputs) -> Stage:
    assert network.geometry is not None
    settings = inputs.settings
    batches = GeometryBatches(inputs.trained, inputs.components)
    measured = GeometryBatches(inputs.measured, inputs.components)

    @torch.inference_mode()
    def explained(averaged: nn.Module) -> float:
        if not len(measured):
            return 0.0
        points, roots = measured.draw(np.random.default_rng(0))
        return float(averaged(points.to(inputs.device), roots.to(inputs.device))[1])

    torch.manual_seed(settings.seed)
    return Stage(
        name="geometry",
        fingerprint=digest(inputs.sources, f"seed {settings.seed}, {GEOMETRY_STEPS} steps"),
        steps=GEOMETRY_STEPS,
        learner=GeometryObjective(network.geometry, batches),
        draw=batches.draw,
        measure=explained,
        learning_rate=2e-3,
        weight_decay=0.01,
        ema_decay=0.998,
        bfloat16=False,
    )


def warm_up(
    network: CSRN, inputs: TrainInputs, guide: Checkpoint | None, run: Callable[[Stage], nn.Module]
) -> WarmUp:
    """Train the encoder and its heads on small patches first, then on whole ones."""
    settings = inputs.settings
    outputs = {name: values.shape[-1] for name, values in inputs.targets.by_name().items()}
    said = None
    if guide is not None:
        counts = {name: outputs[name] for name in CLASS_WEIGHTS if name in outputs}
        said = describe_by_teacher(guide, inputs.trained, counts, share=settings.teacher_share)
        outputs["teacher"] = said.maps.shape[-1]
    torch.manual_seed(settings.seed)  # The warm-up starts the same whatever parts the network has.
    learner = WarmUp(network.encoder, outputs=outputs, maps_weight=1 - settings.teacher_share)
    size_px = inputs.config.layout.size_px
    for name, steps, side_px, learning_rate in (
        (
            "warm-up-small",
            settings.small_warmup_steps,
            round(size_px * SMALL_SHARE),
            settings.learning_rate,
        ),
        ("warm-up", settings.warmup_steps, size_px, settings.whole_learning_rate),
    ):
        if steps:
            warmed = run(
                _warm_up_stage(
                    name, learner, inputs, said, steps=steps, size_px=side_px, learning_rate=learning_rate
                )
            )
            assert isinstance(warmed, WarmUp)
            learner = warmed
    return learner


def _warm_up_stage(
    name: str,
    learner: WarmUp,
    inputs: TrainInputs,
    said: TeacherTargets | None,
    *,
    steps: int,
    size_px: int,
    learning_rate: float,
) -> Stage:
    settings, measured = inputs.settings, inputs.measured
    labels = np.array([settings.classes.index(label) for label in measured.labels.tolist()])
    _, world = rank_and_world()

    @torch.inference_mode()
    def mean_recall(averaged: nn.Module) -> float:
        predicted = []
        for start in range(0, len(measured), ENCODE_BATCH):
            stored = measured.patches(slice(start, start + ENCODE_BATCH), inputs.config.patches)
            pixels = torch.from_numpy(stored).to(inputs.device).permute(0, 1, 4, 2, 3).float() / 255
            small = resize_patches(pixels, size_px)
            predicted.append(averaged.predict(small).cpu().numpy())  # type: ignore[operator]
        correct = np.concatenate(predicted) == labels
        return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))

    before_episodes = {
        key: value for key, value in dataclasses.asdict(settings).items() if key not in EPISODE_SETTINGS
    }
    return Stage(
        name=name,
        fingerprint=digest(inputs.sources, repr(before_episodes)),
        steps=steps,
        learner=learner,
        draw=LabelBatches(
            inputs.reader,
            inputs.targets,
            inputs.labels,
            batch=max(settings.warmup_batch // world, 1),
            size_px=size_px,
            teacher=said,
        ).draw,
        measure=mean_recall,
        learning_rate=learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def episode_stage(network: CSRN, inputs: TrainInputs) -> Stage:
    settings = inputs.settings

    def episode_accuracy(averaged: nn.Module) -> float:
        scorer = inputs.relation_scorer(averaged.network)  # type: ignore[arg-type]
        return evaluate(
            scorer, inputs.measured_sampler, episodes=MEASURED_EPISODES, seed=settings.seed
        ).accuracy

    return Stage(
        name="episodes",
        fingerprint=digest(inputs.sources, repr(settings)),
        steps=settings.steps,
        learner=EpisodeObjective(network, freeze_encoder=settings.warmup_steps > 0),
        draw=inputs.episode_batches.draw,
        measure=episode_accuracy,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def fit_pooled_maps(network: CSRN, inputs: TrainInputs) -> None:
    """Set the mean, deviation and whitening of the channels over some of the training images."""
    if network.pooled is None:
        return
    rng = np.random.default_rng(inputs.settings.seed)
    chosen = np.sort(rng.permutation(len(inputs.trained))[:DESCRIBED_IMAGES])
    features = encode_images(inputs.classifier(network.eval()), inputs.trained.select(chosen))
    batches = torch.split(features, ENCODE_BATCH)
    means = torch.cat([network.unpack(batch).maps.mean(dim=(-2, -1)) for batch in batches])
    network.pooled.mean.copy_(means.mean(dim=0))
    network.pooled.deviation.copy_(means.std(dim=0).clamp_min(1e-3))
    standardised = (means - network.pooled.mean.cpu()) / network.pooled.deviation.cpu()
    network.pooled.whitening.copy_(fit_whitening(standardised.flatten(1), inputs.labels[chosen]))


def fit_whitening(descriptions: Tensor, labels: npt.NDArray[np.int64]) -> Tensor:
    """Inverse square root (D, D) of the shrunken covariance of descriptions (images, D) within classes."""
    spread = descriptions.double()
    for label in np.unique(labels):
        of_class = torch.from_numpy(labels == label)
        spread[of_class] -= spread[of_class].mean(dim=0)
    within = spread.T @ spread / len(spread)
    within = (1 - SHRINKAGE) * within + SHRINKAGE * within.diagonal().mean() * torch.eye(len(within))
    values, directions = torch.linalg.eigh(within)
    whitening: Tensor = (directions * values.rsqrt()) @ directions.T
    return whitening.float()


def fit_rule(network: CSRN, inputs: TrainInputs) -> RuleFit:
    """The rule of the threshold, from held-out images in classes of several kinds."""
    images, settings = inputs.measured, inputs.settings
    rng = np.random.default_rng(settings.seed)
    held = build_targets(images, inputs.components, classes=settings.classes)
    kinds = [images.labels, voted_names(images.votes, settings.classes)]
    for descriptions in (held.components[:, 0], held.blendshapes[:, 0]):
        kinds += [
            cluster_faces(descriptions, clusters=clusters, rng=rng).astype(np.str_)
            for clusters in RULE_CLUSTERS
            if len(images) >= 8 * clusters
        ]
    samplers = session_samplers(kinds, groups=images.kin, persons=images.persons)
    return fit_unknown_rule(
        inputs.relation_scorer(network), samplers, episodes=RULE_EPISODES, seed=settings.seed
    )
