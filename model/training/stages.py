"""The stages of training; each is built from the inputs and the network trained so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.networks.csrn import CSRN
from model.training.batches import LabelBatches
from model.training.calibrate import RuleFit, fit_unknown_rule, session_samplers
from model.training.evaluate import evaluate
from model.training.geometry import GeometryBatches, GeometryObjective
from model.training.inputs import TrainInputs, digest
from model.training.landmark_components import cluster_faces
from model.training.loop import Stage
from model.training.objectives import CLASS_WEIGHTS, EpisodeObjective, WarmUp
from model.training.patch_reader import pixels_of, resize_patches
from model.training.scorers import ENCODE_BATCH, encode_images
from model.training.targets import build_targets, voted_names
from model.training.teacher import TeacherTargets, describe_by_teacher

DESCRIBED_IMAGES = 8000
"""Number of training images from which the mean, deviation and whitening of pooled maps are computed"""
SHRINKAGE = 0.5
"""Weight of a multiple of the identity in the covariance within classes"""
MEASURED_EPISODES = 1000
EPISODE_SETTINGS = ("steps", "way", "shot", "query", "episodes_per_step", "label_episodes", "votes_weight")
"""The warm-up does not depend on these settings, so runs that differ only in them can share one"""
RULE_CLUSTERS = (8, 24)
RULE_EPISODES = 15
"""Number of episodes of each way, shot and kind of classes on which the rule of the threshold is fitted"""
GEOMETRY_STEPS = 2500
SMALL_SHARE = 2 / 3
"""Side of the patches in the first warm-up stage, relative to the layout's"""


def geometry_stage(network: CSRN, inputs: TrainInputs) -> Stage:
    """Train the blendshape network."""
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
    """Train the encoder and its heads, first on small patches, then on patches of full size."""
    settings = inputs.settings
    outputs = {name: values.shape[-1] for name, values in inputs.targets.by_name().items()}
    teacher = None
    if guide is not None:
        counts = {name: outputs[name] for name in CLASS_WEIGHTS if name in outputs}
        teacher = describe_by_teacher(guide, inputs.trained, counts, share=settings.teacher_share)
        outputs["teacher"] = teacher.maps.shape[-1]
    # The start of the warm-up does not depend on the parts of the network.
    torch.manual_seed(settings.seed)
    learner = WarmUp(network.encoder, outputs=outputs, maps_weight=1 - settings.teacher_share)
    if settings.small_warmup_steps:
        learner = run(_warm_up_stage(learner, inputs, teacher, small=True))  # type: ignore[assignment]
    return run(_warm_up_stage(learner, inputs, teacher, small=False))  # type: ignore[return-value]


def _warm_up_stage(
    learner: WarmUp, inputs: TrainInputs, teacher: TeacherTargets | None, *, small: bool
) -> Stage:
    settings, measured = inputs.settings, inputs.measured
    labels = np.array([settings.classes.index(label) for label in measured.labels.tolist()])
    size_px = inputs.config.layout.size_px
    size_px = round(size_px * SMALL_SHARE) if small else size_px

    @torch.inference_mode()
    def mean_recall(averaged: nn.Module) -> float:
        predicted = []
        for start in range(0, len(measured), ENCODE_BATCH):
            patches = measured.patches(slice(start, start + ENCODE_BATCH), inputs.config.patches)
            pixels = resize_patches(pixels_of(patches).to(inputs.device), size_px)
            predicted.append(averaged.predict(pixels).cpu().numpy())  # type: ignore[operator]
        correct = np.concatenate(predicted) == labels
        return float(np.mean([correct[labels == label].mean() for label in np.unique(labels)]))

    before_episodes = {
        key: value for key, value in dataclasses.asdict(settings).items() if key not in EPISODE_SETTINGS
    }
    batches = LabelBatches(
        inputs.reader,
        inputs.targets,
        inputs.labels,
        batch=settings.warmup_batch,
        size_px=size_px,
        teacher=teacher,
    )
    return Stage(
        name="warm-up-small" if small else "warm-up",
        fingerprint=digest(inputs.sources, repr(before_episodes)),
        steps=settings.small_warmup_steps if small else settings.warmup_steps,
        learner=learner,
        draw=batches.draw,
        measure=mean_recall,
        learning_rate=settings.learning_rate if small else settings.whole_learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def episode_stage(network: CSRN, inputs: TrainInputs) -> Stage:
    """Train the relation module, and the encoder too if there was no warm-up."""
    settings = inputs.settings
    sampler = inputs.measured_sampler

    def episode_accuracy(averaged: nn.Module) -> float:
        scorer = inputs.relation_scorer(averaged.network)  # type: ignore[arg-type]
        return evaluate(scorer, sampler, episodes=MEASURED_EPISODES, seed=settings.seed).accuracy

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
    """Compute the mean, deviation and whitening of the channels from some of the training images."""
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
    """Inverse square root (D, D) of the shrunken within-class covariance of descriptions (images, D)."""
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
    """Fit the rule that computes a session's threshold for unknown faces, on episodes of held-out images.

    The classes of an episode are labels, votes, or clusters of landmarks or of blendshapes.
    """
    images, settings = inputs.measured, inputs.settings
    rng = np.random.default_rng(settings.seed)
    targets = build_targets(images, inputs.components, classes=settings.classes)
    kinds = [images.labels, voted_names(images.votes, settings.classes)]
    for descriptions in (targets.components[:, 0], targets.blendshapes[:, 0]):
        kinds += [
            cluster_faces(descriptions, clusters=clusters, rng=rng).astype(np.str_)
            for clusters in RULE_CLUSTERS
            if len(images) >= 8 * clusters
        ]
    samplers = session_samplers(kinds, groups=images.kin, persons=images.persons)
    return fit_unknown_rule(
        inputs.relation_scorer(network), samplers, episodes=RULE_EPISODES, seed=settings.seed
    )
