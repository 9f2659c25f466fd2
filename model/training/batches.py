"""What a training step sees: augmented patches of random images, alone or in episodes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.encoders import luminance
from model.errors import EpisodeImpossible
from model.training.augment import augment
from model.training.episodes import EpisodeSampler
from model.training.geometry import LandmarkComponents, cluster_shapes
from model.training.prepared import PreparedImages

CLUSTERINGS, CLUSTERS = 60, 16


class LabelBatches:
    """Batches of labelled images with their landmark components, rare classes drawn more often."""

    def __init__(
        self,
        images: PreparedImages,
        components: LandmarkComponents,
        *,
        classes: tuple[str, ...],
        batch: int,
        colour: bool,
    ) -> None:
        """batch: images in a batch; colour: False where the encoder sees luminance alone."""
        self._images, self._batch, self._colour = images, batch, colour
        self._labels = np.array([classes.index(label) for label in images.labels.tolist()])
        points = images.landmarks()
        # As seen, and as seen in a mirror: (images, 2, components).
        self._components = np.stack([components.of(points), components.of(points, mirrored=True)], axis=1)
        # A middle way between the data's class shares and equal ones.
        weights = 1 / np.sqrt(np.bincount(self._labels, minlength=len(classes)))[self._labels]
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels (batch, 3 parts, 3, 64, 64), labels (batch,), components (batch, count)."""
        chosen = rng.choice(len(self._weights), self._batch, p=self._weights)
        pixels, mirrored = read_augmented(self._images, chosen, rng, colour=self._colour)
        components = self._components[chosen, mirrored.numpy().astype(int)]
        return pixels, torch.from_numpy(self._labels[chosen]), torch.from_numpy(components)


class EpisodeBatches:
    """Batches of episodes; a share of them take their classes from landmark geometry.

    Such classes are free of label noise and many: each clustering looks at faces in another way. So
    the relation module learns to compare faces rather than to know the labels of one data set.
    """

    def __init__(
        self,
        images: PreparedImages,
        components: LandmarkComponents,
        sampler: EpisodeSampler,
        *,
        episodes: int,
        landmark_share: float,
        seed: int,
        colour: bool,
    ) -> None:
        """episodes: in a batch; colour: as for LabelBatches.

        Raises: EpisodeImpossible where the clusters are too small for the sampler's episodes.
        """
        self._images, self._sampler, self._colour = images, sampler, colour
        self._episodes, self._landmark_share = episodes, landmark_share
        self._landmark_samplers: list[EpisodeSampler] = []
        if landmark_share > 0:
            self._landmark_samplers = _landmark_samplers(images, components, sampler, seed)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, int]:
        """What `EpisodeObjective` takes: pixels, which episodes are of labels, and the shot."""
        drawn = []
        by_labels = rng.random(self._episodes) >= self._landmark_share
        for labelled in by_labels.tolist():
            samplers = [self._sampler] if labelled else self._landmark_samplers
            drawn.append(samplers[rng.integers(len(samplers))].draw(rng))
        index = np.stack([np.concatenate([episode.support, episode.query], axis=1) for episode in drawn])
        pixels, _ = read_augmented(self._images, index.ravel(), rng, colour=self._colour)
        episodes = pixels.reshape(*index.shape, *pixels.shape[1:])
        return episodes, torch.from_numpy(by_labels), self._sampler.shot


def read_augmented(
    images: PreparedImages, chosen: npt.NDArray[np.int64], rng: np.random.Generator, *, colour: bool
) -> tuple[Tensor, Tensor]:
    """Augmented pixels (chosen, 3 parts, 3, 64, 64) float, and (chosen,) bool: which are mirrored."""
    pixels = torch.from_numpy(images.patches(chosen)).permute(0, 1, 4, 2, 3).float() / 255
    if not colour:
        # One channel is cheaper to move and light than three; the encoder sees it three times.
        pixels = luminance(pixels)
    moved, mirrored = augment(pixels, torch.Generator().manual_seed(int(rng.integers(2**62))))
    return moved.expand(-1, -1, 3, -1, -1), mirrored


def _landmark_samplers(
    images: PreparedImages, components: LandmarkComponents, sampler: EpisodeSampler, seed: int
) -> list[EpisodeSampler]:
    shapes = components.of(images.landmarks())
    _, kin = np.unique(images.kin, return_inverse=True)
    needed = sampler.shot + sampler.query
    clusters = max(sampler.way, min(CLUSTERS, (kin.max() + 1) // (2 * needed)))
    rng = np.random.default_rng(seed)
    samplers = []
    for _ in range(CLUSTERINGS):
        names = cluster_shapes(shapes, clusters=clusters, rng=rng).astype(np.str_)
        # The frames of a video look alike and fall into one class: one of them, drawn anew, is enough.
        names[~_one_of_each(kin, rng)] = ""
        kept = tuple(
            name
            for name, count in zip(*np.unique(names, return_counts=True), strict=True)
            if name and count >= needed
        )
        if len(kept) >= sampler.way:
            samplers.append(
                EpisodeSampler(names, classes=kept, way=sampler.way, shot=sampler.shot, query=sampler.query)
            )
    if not samplers:
        raise EpisodeImpossible(
            f"{kin.max() + 1} images are too few for episodes of landmark classes "
            f"({sampler.way}-way, {needed} images each): ask for none"
        )
    return samplers


def _one_of_each(kin: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(images,) true for one random image of each kin (images,)."""
    order = rng.permutation(len(kin))
    _, first = np.unique(kin[order], return_index=True)
    chosen = np.zeros(len(kin), dtype=bool)
    chosen[order[first]] = True
    return chosen
