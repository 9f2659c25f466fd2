"""The inputs of a training run: settings, training images, held-out images, targets and episodes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from model.checkpoint import Checkpoint, CheckpointConfig, PartWeights, Provenance
from model.classifier import Classifier
from model.errors import EpisodeImpossible
from model.networks.csrn import CSRN
from model.networks.encoders import ENCODERS
from model.training.batches import EpisodeBatches, cluster_samplers
from model.training.calibrate import QUERIES, SHOTS
from model.training.episodes import EpisodeSampler, classes_with_enough
from model.training.landmark_components import LandmarkComponents
from model.training.objectives import CLASS_WEIGHTS
from model.training.patch_reader import PatchReader
from model.training.prepared import ANY_NAME, PreparedImages
from model.training.scorers import RelationScorer, encode_images
from model.training.targets import Targets, build_targets, shows_another_class, voted_names

COMPONENTS = 24
PART_WEIGHTS = PartWeights(
    face=0.05, eyes=0.15, lips=0.15, prototype=0.05, cosine=1.0, votes=1.0, geometry=0.25
)
"""Chosen on photos of another source and on warped expressions (weights/csrn-fer2013.md)"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything besides the images that determines the weights."""

    classes: tuple[str, ...]
    encoder: Literal["conv4", "resnet", "resnet-large"] = "resnet"
    warmup_steps: int = 4800
    """Supervised steps of the encoder, which is then frozen; 0 trains it by episodes, as in the paper"""
    small_warmup_steps: int = 0
    """Supervised steps before those, on patches of SMALL_SHARE of the side, which take half the time"""
    warmup_batch: int = 160
    steps: int = 500
    """Steps of episodes"""
    way: int = 5
    shot: int = 4
    query: int = 3
    episodes_per_step: int = 4
    label_episodes: bool = True
    """Whether some episodes take their classes from the labels and votes; otherwise clusters alone"""
    votes_weight: float = 1.0
    """Weight of the votes part in a class score; lower it for classes that annotators could not choose"""
    learning_rate: float = 2e-3
    """Highest learning rate of the warm-up on small patches and of the episodes"""
    whole_learning_rate: float = 2e-3
    """Highest learning rate of the warm-up on patches of full size"""
    weight_decay: float = 0.05
    ema_decay: float = 0.998
    held_out: float = 0.05
    """Share of each class's images (or videos) that select the best average and fit the threshold"""
    teacher_share: float = 0.0
    """Weight of the teacher's prediction in a soft target; its feature maps have 1 minus this weight"""
    teacher_sha256: str | None = None
    """Hash of the teacher's weights"""
    bfloat16: bool = True
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """The inputs of all stages. They are built first, so an impossible training fails at once."""

    settings: TrainSettings
    config: CheckpointConfig
    device: torch.device
    trained: PreparedImages
    measured: PreparedImages
    """Held-out images, without byte-identical copies of training images"""
    components: LandmarkComponents
    targets: Targets
    labels: npt.NDArray[np.int64]
    """(trained,) class numbers"""
    reader: PatchReader
    episode_batches: EpisodeBatches
    measured_sampler: EpisodeSampler
    sources: str
    """SHA-256 of the images, their labels, votes and blendshapes, and of the choice of training images"""

    @classmethod
    def of(cls, images: PreparedImages, settings: TrainSettings, device: torch.device) -> TrainInputs:
        """Build the inputs from prepared images. Raises: EpisodeImpossible; DatasetInvalid."""
        if len(set(settings.classes)) < 2:
            raise EpisodeImpossible("training needs at least two classes")
        images = images.select(np.isin(images.labels, settings.classes))
        images = images.select(~shows_another_class(images.votes, settings.classes))
        held_out = _held_out(images, settings)
        # FER2013 contains a thousand images twice within its training split.
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
            sources=digest(
                *images.contents.tolist(),
                *images.labels.tolist(),
                *trained.sources.tolist(),
                hashlib.sha256(images.votes.tobytes()).hexdigest(),
                hashlib.sha256(targets.blendshapes.tobytes()).hexdigest(),
            ),
        )

    def classifier(self, network: CSRN) -> Classifier:
        """A classifier with the network as trained so far."""
        unsaved = Provenance(trained_on="in training")
        return Classifier(
            Checkpoint(network=network.to(self.device), config=self.config, provenance=unsaved, sha256="")
        )

    def relation_scorer(self, network: CSRN) -> RelationScorer:
        """A scorer of episodes over the held-out images."""
        classifier = self.classifier(network)
        return RelationScorer(classifier, encode_images(classifier, self.measured))


def _config(settings: TrainSettings, targets: Targets) -> CheckpointConfig:
    """The config to train: conv4 as in the paper, on the published patches; other encoders with all parts."""
    if settings.encoder == "conv4":
        return CheckpointConfig(encoder="conv4")
    present = targets.by_name()
    counts = tuple(present[name].shape[1] for name in CLASS_WEIGHTS if name in present)
    # Without a warm-up the episodes change the encoder, but the cosine needs its statistics beforehand.
    changed = {
        "votes": settings.votes_weight,
        **({} if settings.warmup_steps else {"cosine": None, "votes": None}),
        **({} if "blendshapes" in present else {"geometry": None}),
    }
    return CheckpointConfig(
        encoder=settings.encoder,
        patches="tight",
        residual=settings.warmup_steps > 0,
        part_weights=PART_WEIGHTS.model_copy(update=changed),
        vote_counts=counts if settings.warmup_steps else (),
    )


def _episode_batches(
    images: PreparedImages, settings: TrainSettings, targets: Targets, reader: PatchReader
) -> EpisodeBatches:
    """Batches of training episodes. Their classes are labels, votes, or clusters of landmarks or blendshapes.

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
    return EpisodeBatches(reader, kinds or [[like]], episodes=settings.episodes_per_step)


def _sampler(
    images: PreparedImages,
    labels: npt.NDArray[np.str_],
    settings: TrainSettings,
    *,
    query: int,
    classes: tuple[str, ...] | None = None,
) -> EpisodeSampler:
    """A sampler with these labels (images,); classes: by default those of the settings."""
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
    """(images,) true for a random share of each class's groups or persons, enough for an episode at least."""
    rng = np.random.default_rng(settings.seed)
    together = np.where(images.persons != "", images.persons, images.groups)
    groups = np.array([group or f"/{index}" for index, group in enumerate(together.tolist())])
    held_out = np.zeros(len(images), dtype=bool)
    for label in settings.classes:
        of_class = np.unique(groups[images.labels == label])
        count = max(round(len(of_class) * settings.held_out), settings.shot + 1, min(SHOTS) + QUERIES)
        held_out |= np.isin(groups, rng.permutation(of_class)[:count])
    return held_out


def digest(*texts: str) -> str:
    """One SHA-256 of all texts together, in hexadecimal digits."""
    return hashlib.sha256("\n".join(texts).encode(errors=ANY_NAME)).hexdigest()
