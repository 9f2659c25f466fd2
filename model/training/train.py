"""Train CSRN weights: geometry, warm-up of the encoder, episodes, the rule of the threshold, checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model.checkpoint import (
    Checkpoint,
    CheckpointConfig,
    PartWeights,
    Provenance,
    load_checkpoint,
    save_checkpoint,
)
from model.classifier import Classifier
from model.encoders import ENCODERS
from model.errors import EpisodeImpossible
from model.network import CSRN, VoteHeads
from model.training.batches import (
    EpisodeBatches,
    LabelBatches,
    PatchReader,
    cluster_samplers,
    resize_patches,
)
from model.training.calibrate import QUERIES, SHOTS, RuleFit, fit_unknown_rule, session_samplers
from model.training.episodes import EpisodeSampler, classes_with_enough
from model.training.evaluate import evaluate
from model.training.geometry import LandmarkComponents, cluster_faces
from model.training.learn_geometry import GeometryBatches, GeometryObjective
from model.training.loop import Progress, Stage, rank_and_world, run_stage
from model.training.objectives import CLASS_WEIGHTS, EpisodeObjective, WarmUp
from model.training.prepared import ANY_NAME, PreparedImages
from model.training.scorers import ENCODE_BATCH, RelationScorer, encode_images
from model.training.targets import Targets, build_targets, shown_elsewhere, voted_names
from model.training.teacher import TeacherTargets, describe_by_teacher, require_teacher_of

COMPONENTS = 24
DESCRIBED_IMAGES = 4000
"""How many training images give the pooled maps their mean and deviation"""
MEASURED_EPISODES = 1000
EPISODE_SETTINGS = ("steps", "way", "shot", "query", "episodes_per_step", "label_episodes")
"""Settings that the warm-up does not depend on: runs that differ only in these can share one"""
RULE_CLUSTERS = (8, 24)
RULE_EPISODES = 15
"""Episodes of each way, shot and kind of classes that the rule of the threshold is fitted on"""
GEOMETRY_STEPS = 2500
SMALL_SHARE = 2 / 3
PART_WEIGHTS = PartWeights(
    face=0.05, eyes=0.15, lips=0.15, prototype=0.05, cosine=1.0, votes=1.0, geometry=0.25
)
"""Chosen on photos of another source and on warped expressions (weights/csrn-fer2013.md)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides what comes out, besides the images."""

    classes: tuple[str, ...]
    encoder: Literal["conv4", "resnet", "resnet-large"] = "resnet"
    warmup_steps: int = 6000
    """Supervised steps of the encoder, which is then kept; 0 trains it by episodes, as the paper does"""
    small_warmup_steps: int = 0
    """Supervised steps before those, on patches of SMALL_SHARE of the side, which cost half as much"""
    warmup_batch: int = 80
    steps: int = 500
    """Steps of episodes"""
    way: int = 5
    shot: int = 4
    query: int = 3
    episodes_per_step: int = 4
    label_episodes: bool = True
    """Whether some episodes take their classes from the labels and votes; the others from clusters"""
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    held_out: float = 0.05
    """Share of each class's images (or videos) never trained on: for selection and for the threshold"""
    teacher_sha256: str | None = None
    """Hash of the weights of the teacher, if there is one"""
    bfloat16: bool = True
    seed: int = 0


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
    inputs = _Inputs.of(images, settings, torch.device(device))
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
        learnt = run(_geometry_stage(network, inputs))
        network.geometry.load_state_dict(learnt.network.state_dict())  # type: ignore[union-attr]
    if settings.warmup_steps:
        warmed = _warm_up(network, inputs, guide, run)
        network.encoder.load_state_dict(warmed.encoder.state_dict())
        if network.votes is not None:
            _keep_heads(network.votes, warmed)
    _fit_pooled_maps(network, inputs)
    network = run(_episode_stage(network, inputs)).network  # type: ignore[assignment]

    fit = _fit_rule(network, inputs)
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Inputs:
    """The parts that all stages are made of, built first: training that cannot work is refused at once."""

    settings: TrainSettings
    config: CheckpointConfig
    device: torch.device
    trained: PreparedImages
    measured: PreparedImages
    """Held out of training, and no byte-identical copy of a trained image"""
    components: LandmarkComponents
    targets: Targets
    labels: npt.NDArray[np.int64]
    """(trained,) class numbers"""
    reader: PatchReader
    episode_batches: EpisodeBatches
    measured_sampler: EpisodeSampler
    sources: str
    """SHA-256 of the images, their labels, votes and blendshapes, and of which are trained on"""

    @classmethod
    def of(cls, images: PreparedImages, settings: TrainSettings, device: torch.device) -> _Inputs:
        """Raises: EpisodeImpossible; DatasetInvalid."""
        if len(set(settings.classes)) < 2:
            raise EpisodeImpossible("training needs at least two classes")
        images = images.select(np.isin(images.labels, settings.classes))
        images = images.select(~shown_elsewhere(images.votes, settings.classes))
        held_out = _held_out(images, settings)
        # FER2013 has a thousand images twice within its training split.
        twins = np.isin(images.contents, images.contents[~held_out])
        trained, measured = images.select(~held_out), images.select(held_out & ~twins)
        measured_sampler = _sampler(measured, measured.labels, settings, query=1)
        components = LandmarkComponents.fit(
            trained.landmarks()[..., :2], count=min(COMPONENTS, len(trained) - 1)
        )
        targets = build_targets(trained, components, classes=settings.classes)
        config = _config(settings, targets)
        reader = PatchReader(trained, layout=config.patches, colour=ENCODERS[settings.encoder]().sees_colour)
        return cls(
            settings=settings,
            config=config,
            device=device,
            trained=trained,
            measured=measured,
            components=components,
            targets=targets,
            labels=np.array([settings.classes.index(label) for label in trained.labels.tolist()]),
            reader=reader,
            episode_batches=_episode_batches(trained, settings, targets, reader),
            measured_sampler=measured_sampler,
            sources=_digest(
                *images.contents.tolist(),
                *images.labels.tolist(),
                *trained.sources.tolist(),
                hashlib.sha256(images.votes.tobytes()).hexdigest(),
                hashlib.sha256(targets.blendshapes.tobytes()).hexdigest(),
            ),
        )

    def classifier(self, network: CSRN) -> Classifier:
        unsaved = Provenance(trained_on="in training")
        return Classifier(
            Checkpoint(network=network.to(self.device), config=self.config, provenance=unsaved, sha256="")
        )

    def relation_scorer(self, network: CSRN) -> RelationScorer:
        """Scores episodes over the held-out images."""
        classifier = self.classifier(network)
        return RelationScorer(classifier, encode_images(classifier, self.measured))


def _config(settings: TrainSettings, targets: Targets) -> CheckpointConfig:
    """conv4 is trained as the paper has it, on the published patches; the others with all parts."""
    if settings.encoder == "conv4":
        return CheckpointConfig(encoder="conv4")
    present = targets.by_name()
    counts = tuple(present[name].shape[1] for name in CLASS_WEIGHTS if name in present)
    # Without a warm-up the episodes change the encoder, whose statistics the cosine needs beforehand.
    left_out = {
        **({} if settings.warmup_steps else {"cosine": None, "votes": None}),
        **({} if "blendshapes" in present else {"geometry": None}),
    }
    return CheckpointConfig(
        encoder=settings.encoder,
        patches="tight",
        residual=settings.warmup_steps > 0,
        part_weights=PART_WEIGHTS.model_copy(update=left_out),
        vote_counts=counts if settings.warmup_steps else (),
    )


def _keep_heads(votes: VoteHeads, warmed: WarmUp) -> None:
    """Copy the heads that predict labels and votes from the warm-up."""
    with torch.no_grad():
        for kept, heads in zip(votes.parts, warmed.class_heads(), strict=True):
            assert isinstance(kept, nn.Linear)
            kept.weight.copy_(torch.cat([head.weight for head in heads]))
            kept.bias.copy_(torch.cat([head.bias for head in heads]))


def _geometry_stage(network: CSRN, inputs: _Inputs) -> Stage:
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
        fingerprint=_digest(inputs.sources, f"seed {settings.seed}, {GEOMETRY_STEPS} steps"),
        steps=GEOMETRY_STEPS,
        learner=GeometryObjective(network.geometry, batches),
        draw=batches.draw,
        measure=explained,
        learning_rate=2e-3,
        weight_decay=0.01,
        ema_decay=0.998,
        bfloat16=False,
    )


def _warm_up(
    network: CSRN, inputs: _Inputs, guide: Checkpoint | None, run: Callable[[Stage], nn.Module]
) -> WarmUp:
    """Train the encoder and its heads on small patches first, then on whole ones."""
    settings = inputs.settings
    outputs = {name: values.shape[-1] for name, values in inputs.targets.by_name().items()}
    said = None
    if guide is not None:
        counts = {name: outputs[name] for name in CLASS_WEIGHTS if name in outputs}
        said = describe_by_teacher(guide, inputs.trained, counts)
        outputs["teacher"] = said.maps.shape[-1]
    torch.manual_seed(settings.seed)  # The warm-up starts the same whatever parts the network has.
    learner = WarmUp(network.encoder, outputs=outputs)
    size_px = inputs.config.layout.size_px
    for name, steps, side_px in (
        ("warm-up-small", settings.small_warmup_steps, round(size_px * SMALL_SHARE)),
        ("warm-up", settings.warmup_steps, size_px),
    ):
        if steps:
            warmed = run(_warm_up_stage(name, learner, inputs, said, steps=steps, size_px=side_px))
            assert isinstance(warmed, WarmUp)
            learner = warmed
    return learner


def _warm_up_stage(
    name: str,
    learner: WarmUp,
    inputs: _Inputs,
    said: TeacherTargets | None,
    *,
    steps: int,
    size_px: int,
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
        fingerprint=_digest(inputs.sources, repr(before_episodes)),
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
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def _episode_stage(network: CSRN, inputs: _Inputs) -> Stage:
    settings = inputs.settings

    def episode_accuracy(averaged: nn.Module) -> float:
        scorer = inputs.relation_scorer(averaged.network)  # type: ignore[arg-type]
        return evaluate(
            scorer, inputs.measured_sampler, episodes=MEASURED_EPISODES, seed=settings.seed
        ).accuracy

    return Stage(
        name="episodes",
        fingerprint=_digest(inputs.sources, repr(settings)),
        steps=settings.steps,
        learner=EpisodeObjective(network, freeze_encoder=settings.warmup_steps > 0),
        draw=inputs.episode_batches.draw,
        measure=episode_accuracy,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def _episode_batches(
    images: PreparedImages, settings: TrainSettings, targets: Targets, reader: PatchReader
) -> EpisodeBatches:
    """Episodes of several kinds of classes: labels, votes, clusters of landmarks and of blendshapes.

    Raises: EpisodeImpossible.
    """
    rng = np.random.default_rng(settings.seed)
    like = _sampler(images, images.labels, settings, query=settings.query)
    kinds: list[list[EpisodeSampler]] = []
    if settings.label_episodes:
        kinds.append([like])
        voted = voted_names(images.votes, settings.classes)
        with contextlib.suppress(EpisodeImpossible):  # too few images with votes
            names = classes_with_enough(voted, shot=settings.shot, query=settings.query, groups=images.kin)
            kinds.append([_sampler(images, voted, settings, query=settings.query, classes=names)])
    if settings.encoder != "conv4":
        kinds.append(cluster_samplers(images, targets.components[:, 0], like, rng))
        if targets.has_blendshapes.any():
            kinds.append(cluster_samplers(images, targets.blendshapes[:, 0], like, rng))
    _, world = rank_and_world()
    return EpisodeBatches(reader, kinds or [[like]], episodes=max(settings.episodes_per_step // world, 1))


def _fit_pooled_maps(network: CSRN, inputs: _Inputs) -> None:
    """Set the mean and deviation of the channels over some of the training images."""
    if network.pooled is None:
        return
    rng = np.random.default_rng(inputs.settings.seed)
    chosen = np.sort(rng.permutation(len(inputs.trained))[:DESCRIBED_IMAGES])
    features = encode_images(inputs.classifier(network.eval()), inputs.trained.select(chosen))
    means = network.unpack(features).maps.mean(dim=(-2, -1))
    network.pooled.mean.copy_(means.mean(dim=0))
    network.pooled.deviation.copy_(means.std(dim=0).clamp_min(1e-3))


def _fit_rule(network: CSRN, inputs: _Inputs) -> RuleFit:
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


def _sampler(
    images: PreparedImages,
    labels: npt.NDArray[np.str_],
    settings: TrainSettings,
    *,
    query: int,
    classes: tuple[str, ...] | None = None,
) -> EpisodeSampler:
    """Episodes of these labels (images,); classes: those that are trained on, if not given."""
    return EpisodeSampler(
        labels,
        classes=classes or settings.classes,
        way=min(settings.way, len(settings.classes)),
        shot=settings.shot,
        query=query,
        groups=images.kin,
        persons=images.persons,
    )


def _held_out(images: PreparedImages, settings: TrainSettings) -> npt.NDArray[np.bool_]:
    """(images,) true for a seeded share of each class's groups or persons, at least enough for an episode."""
    rng = np.random.default_rng(settings.seed)
    together = np.where(images.persons != "", images.persons, images.groups)
    groups = np.array([group or f"/{index}" for index, group in enumerate(together.tolist())])
    held_out = np.zeros(len(images), dtype=bool)
    for label in settings.classes:
        of_class = np.unique(groups[images.labels == label])
        count = max(round(len(of_class) * settings.held_out), settings.shot + 1, min(SHOTS) + QUERIES)
        held_out |= np.isin(groups, rng.permutation(of_class)[:count])
    return held_out


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors=ANY_NAME)).hexdigest()
