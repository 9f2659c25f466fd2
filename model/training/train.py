"""Train CSRN weights: settings, data, warm-up of the encoder, episodes, calibration, checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from model.checkpoint import Checkpoint, CheckpointConfig, PartWeights, Provenance, save_checkpoint
from model.classifier import Classifier
from model.encoders import ENCODERS
from model.errors import EpisodeImpossible
from model.network import CSRN, CosineModule
from model.training.batches import EpisodeBatches, LabelBatches
from model.training.calibrate import Calibration, calibrate
from model.training.episodes import EpisodeSampler
from model.training.evaluate import evaluate
from model.training.geometry import LandmarkComponents
from model.training.loop import Progress, Stage, rank_and_world, run_stage
from model.training.objectives import EpisodeObjective, WarmUp
from model.training.prepared import ANY_NAME, PreparedImages
from model.training.scorers import ENCODE_BATCH, RelationScorer, encode_images

COMPONENTS = 24
DESCRIBED_IMAGES = 2000
"""How many training images give the cosine module its mean and deviation"""
MEASURED_EPISODES = 1000
EPISODE_SETTINGS = ("steps", "way", "query", "episodes_per_step", "landmark_episodes", "cosine_weight")
"""Settings that the warm-up does not depend on: runs that differ in these alone can share one"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything that decides what comes out, besides the data."""

    classes: tuple[str, ...]
    encoder: Literal["conv4", "resnet12"] = "resnet12"
    warmup_steps: int = 9000
    """Supervised steps of the encoder, which is then kept; 0 trains it by episodes, as the paper does"""
    warmup_batch: int = 160
    steps: int = 1000
    way: int = 4
    shot: int = 4
    query: int = 4
    episodes_per_step: int = 4
    landmark_episodes: float = 0.6
    """Share of the episodes whose classes are clusters of landmark geometry instead of labels"""
    cosine_weight: float = 1.0
    """Weight of the cosine part in a class score; 0 leaves the part out, as does no warm-up"""
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    held_out: float = 0.05
    """Share of each class's images (or videos) never trained on: for selection and calibration"""
    bfloat16: bool = True
    seed: int = 0


def train(
    images: PreparedImages,
    out: Path,
    settings: TrainSettings,
    *,
    trained_on: str,
    run_folder: Path,
    device: torch.device | str = "cpu",
    save_every: int = 250,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Calibration:
    """Train on `images` and write weights to `out`; a run that was stopped goes on in `run_folder`.

    Of the moving averages the one that does best on held-out images of the training classes is taken;
    on the same images `unknown_below` is calibrated. Under torchrun each process takes its share of
    every batch.

    Raises: EpisodeImpossible; RunMismatch if run_folder holds a run on other images or settings.
    """
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

    if settings.warmup_steps:
        warmed = run(_warm_up_stage(network, inputs))
        network.encoder.load_state_dict(warmed.encoder.state_dict())  # type: ignore[union-attr]
    if network.cosine is not None:
        _fit_cosine(network, network.cosine, inputs)
    network = run(_episode_stage(network, inputs)).network  # type: ignore[assignment]

    calibration = calibrate(
        inputs.relation_scorer(network),
        inputs.calibration_sampler,
        episodes=MEASURED_EPISODES,
        seed=settings.seed,
    )
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
            evaluation={"calibration": dataclasses.asdict(calibration)},
        )
        config = inputs.config.model_copy(update={"unknown_below": calibration.unknown_below})
        save_checkpoint(out, network, config=config, provenance=provenance)
    return calibration


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What both stages are made of. Put together first: what cannot be trained is refused at once."""

    settings: TrainSettings
    config: CheckpointConfig
    device: torch.device
    trained: PreparedImages
    measured: PreparedImages
    """Held out of training, and not the very bytes of a trained image either"""
    components: LandmarkComponents
    label_batches: LabelBatches
    episode_batches: EpisodeBatches
    measured_sampler: EpisodeSampler
    calibration_sampler: EpisodeSampler
    """Of one class more than is taught"""
    sources: str
    """SHA-256 of which images and labels there are"""

    @classmethod
    def of(cls, images: PreparedImages, settings: TrainSettings, device: torch.device) -> _Inputs:
        """Raises: EpisodeImpossible."""
        if len(set(settings.classes)) < 2:
            raise EpisodeImpossible("training needs at least two classes")
        images = images.select(np.isin(images.labels, settings.classes))
        held_out = _held_out(images, settings)
        # FER2013 has a thousand images twice within its training split.
        twins = np.isin(images.contents, images.contents[~held_out])
        trained, measured = images.select(~held_out), images.select(held_out & ~twins)
        sampler = _sampler(trained, settings, way=settings.way, query=settings.query)
        taught = min(settings.way, len(settings.classes) - 1)
        components = LandmarkComponents.fit(trained.landmarks(), count=min(COMPONENTS, len(trained) - 1))
        colour = ENCODERS[settings.encoder].sees_colour
        _, world = rank_and_world()
        # The cosine part describes faces by an encoder that episodes leave as it is.
        cosine_weight = settings.cosine_weight if settings.warmup_steps else 0
        return cls(
            settings=settings,
            config=CheckpointConfig(
                encoder=settings.encoder, part_weights=PartWeights(cosine=cosine_weight or None)
            ),
            device=device,
            trained=trained,
            measured=measured,
            components=components,
            label_batches=LabelBatches(
                trained,
                components,
                classes=settings.classes,
                batch=max(settings.warmup_batch // world, 1),
                colour=colour,
            ),
            episode_batches=EpisodeBatches(
                trained,
                components,
                sampler,
                episodes=max(settings.episodes_per_step // world, 1),
                landmark_share=settings.landmark_episodes,
                seed=settings.seed,
                colour=colour,
            ),
            measured_sampler=_sampler(measured, settings, way=settings.way, query=1),
            calibration_sampler=_sampler(measured, settings, way=taught + 1, query=1),
            sources=_digest(*images.sources.tolist(), *images.labels.tolist()),
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


def _warm_up_stage(network: CSRN, inputs: _Inputs) -> Stage:
    settings, measured = inputs.settings, inputs.measured
    labels = np.array([settings.classes.index(label) for label in measured.labels.tolist()])

    @torch.inference_mode()
    def mean_recall(averaged: nn.Module) -> float:
        predicted = []
        for start in range(0, len(measured), ENCODE_BATCH):
            patches = torch.from_numpy(measured.patches(slice(start, start + ENCODE_BATCH)))
            pixels = patches.to(inputs.device).permute(0, 1, 4, 2, 3).float() / 255
            predicted.append(averaged.predict(pixels).cpu().numpy())  # type: ignore[operator]
        right = np.concatenate(predicted) == labels
        return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))

    torch.manual_seed(settings.seed)  # Whatever parts the network has, the warm-up starts the same.
    before_episodes = dataclasses.asdict(settings)
    for setting in EPISODE_SETTINGS:
        del before_episodes[setting]
    return Stage(
        name="warm-up",
        fingerprint=_digest(inputs.sources, repr(before_episodes)),
        steps=settings.warmup_steps,
        learner=WarmUp(
            network.encoder, classes=len(settings.classes), components=inputs.components.axes.shape[1]
        ),
        draw=inputs.label_batches.draw,
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

    # The weight of the cosine part changes no gradient: runs that differ in it share every step.
    trained_alike = dataclasses.replace(settings, cosine_weight=float(settings.cosine_weight > 0))
    return Stage(
        name="episodes",
        fingerprint=_digest(inputs.sources, repr(trained_alike)),
        steps=settings.steps,
        learner=EpisodeObjective(network, freeze_encoder=settings.warmup_steps > 0),
        draw=inputs.episode_batches.draw,
        measure=episode_accuracy,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        ema_decay=settings.ema_decay,
        bfloat16=settings.bfloat16,
    )


def _fit_cosine(network: CSRN, cosine: CosineModule, inputs: _Inputs) -> None:
    """Set the mean and deviation of the channels over some of the training images."""
    rng = np.random.default_rng(inputs.settings.seed)
    chosen = np.sort(rng.permutation(len(inputs.trained))[:DESCRIBED_IMAGES])
    features = encode_images(inputs.classifier(network.eval()), inputs.trained.select(chosen))
    means = features.float().mean(dim=(-2, -1))
    cosine.mean.copy_(means.mean(dim=0))
    cosine.deviation.copy_(means.std(dim=0).clamp_min(1e-3))


def _sampler(images: PreparedImages, settings: TrainSettings, *, way: int, query: int) -> EpisodeSampler:
    return EpisodeSampler(
        images.labels,
        classes=settings.classes,
        way=way,
        shot=settings.shot,
        query=query,
        groups=images.kin,
    )


def _held_out(images: PreparedImages, settings: TrainSettings) -> npt.NDArray[np.bool_]:
    """(images,) true for a seeded share of each class's groups, at least enough for an episode."""
    rng = np.random.default_rng(settings.seed)
    groups = np.array([group or f"/{index}" for index, group in enumerate(images.groups.tolist())])
    held_out = np.zeros(len(images), dtype=bool)
    for label in settings.classes:
        of_class = np.unique(groups[images.labels == label])
        count = max(round(len(of_class) * settings.held_out), settings.shot + 1)
        held_out |= np.isin(groups, rng.permutation(of_class)[:count])
    return held_out


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors=ANY_NAME)).hexdigest()
