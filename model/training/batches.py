"""What a training step sees: augmented patches of random images, alone or in episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.errors import EpisodeImpossible
from model.networks.encoders import luminance
from model.training.augment import augment
from model.training.episodes import EpisodeSampler
from model.training.geometry import cluster_faces
from model.training.prepared import PreparedImages
from model.training.targets import Targets
from model.training.teacher import TeacherTargets
from model.vision.patches import LayoutName

CLUSTERINGS, CLUSTERS = 30, 16
WHOLE_FACES = 0.5
"""Share of a batch's images of which eyes and lips are looked at too; of the others the face alone"""


class PatchReader:
    """Reads augmented patches of training images."""

    def __init__(self, images: PreparedImages, *, layout: LayoutName, colour: bool) -> None:
        """colour: False where the encoder sees luminance alone."""
        self._images, self._layout, self._colour = images, layout, colour

    def read(
        self, chosen: npt.NDArray[np.int64], rng: np.random.Generator, *, size_px: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pixels (chosen, 3 parts, 3, size, size) float, and (chosen,) bool: which are mirrored.

        size_px: side of the patches; that of the layout if not given.
        """
        stored = torch.from_numpy(self._images.patches(chosen, self._layout))
        pixels = stored.permute(0, 1, 4, 2, 3).float() / 255
        if not self._colour:
            # One channel is cheaper to move and light than three; the encoder sees it three times.
            pixels = luminance(pixels)
        if size_px is not None:
            pixels = resize_patches(pixels, size_px)
        moved, mirrored = augment(pixels, torch.Generator().manual_seed(int(rng.integers(2**62))))
        return moved.expand(-1, -1, 3, -1, -1), mirrored


class LabelBatches:
    """Batches of labelled images with their targets, rare classes drawn more often."""

    def __init__(
        self,
        reader: PatchReader,
        targets: Targets,
        labels: npt.NDArray[np.int64],
        *,
        batch: int,
        size_px: int,
        teacher: TeacherTargets | None,
    ) -> None:
        """labels (images,) class numbers; batch: images in a batch. size_px: side of the patches."""
        self._reader, self._targets, self._teacher = reader, targets, teacher
        self._batch, self._size_px = batch, size_px
        # A middle way between the data's class shares and equal ones.
        weights = 1 / np.sqrt(np.maximum(np.bincount(labels), 1))[labels]
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What `WarmUp` takes: patches, all faces first, then eyes and lips of some; and targets."""
        chosen = rng.choice(len(self._weights), self._batch, p=self._weights)
        pixels, mirrored = self._reader.read(chosen, rng, size_px=self._size_px)
        whole = max(round(WHOLE_FACES * len(pixels)), 1)
        patches = torch.cat([pixels[:, 0], pixels[:whole, 1], pixels[:whole, 2]])
        in_mirror = mirrored.numpy().astype(np.int64)
        targets = self._targets.of(chosen, in_mirror)
        if self._teacher is not None:
            targets = self._teacher.add_to(targets, chosen, in_mirror)
        return patches, targets


def resize_patches(pixels: Tensor, size_px: int) -> Tensor:
    """Patches (images, parts, channels, size, size) float with another side, anti-aliased."""
    if pixels.shape[-1] == size_px:
        return pixels
    small = nn.functional.interpolate(pixels.flatten(0, 1), size=size_px, mode="bilinear", antialias=True)
    return small.reshape(*pixels.shape[:2], *small.shape[1:])


class EpisodeBatches:
    """Batches of episodes, whose classes are of several kinds: labels, and clusters of faces.

    Clusters are free of label noise and many: each looks at faces in another way. So the relation module
    learns to compare faces rather than to know the labels of one data set.
    """

    def __init__(
        self, reader: PatchReader, kinds: Sequence[Sequence[EpisodeSampler]], *, episodes: int
    ) -> None:
        """kinds: samplers of each kind of classes, all of one way and shot. episodes: in a batch."""
        self._reader, self._kinds, self._episodes = reader, kinds, episodes

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """What `EpisodeObjective` takes: pixels and the shot."""
        drawn = []
        for _ in range(self._episodes):
            samplers = self._kinds[int(rng.integers(len(self._kinds)))]
            drawn.append(samplers[int(rng.integers(len(samplers)))].draw(rng))
        index = np.stack([np.concatenate([episode.support, episode.query], axis=1) for episode in drawn])
        pixels, _ = self._reader.read(index.ravel(), rng)
        return pixels.reshape(*index.shape, *pixels.shape[1:]), self._kinds[0][0].shot


def cluster_samplers(
    images: PreparedImages,
    descriptions: npt.NDArray[np.float32],
    sampler: EpisodeSampler,
    rng: np.random.Generator,
    *,
    clusterings: int = CLUSTERINGS,
    clusters: int = CLUSTERS,
) -> list[EpisodeSampler]:
    """Samplers like `sampler` whose classes are clusters of descriptions (images, D), each time others.

    Raises: EpisodeImpossible where the clusters are too small.
    """
    _, kin = np.unique(images.kin, return_inverse=True)
    needed = sampler.shot + sampler.query
    clusters = max(sampler.way, min(clusters, (kin.max() + 1) // (2 * needed)))
    samplers = []
    for _ in range(clusterings):
        names = cluster_faces(descriptions, clusters=clusters, rng=rng).astype(np.str_)
        # The frames of a video look alike and fall into one class: one of them, drawn anew, is enough.
        names[~_one_of_each(kin, rng)] = ""
        kept = tuple(
            name
            for name, count in zip(*np.unique(names, return_counts=True), strict=True)
            if name and count >= needed
        )
        if len(kept) >= sampler.way:
            samplers.append(
                EpisodeSampler(
                    names,
                    classes=kept,
                    way=sampler.way,
                    shot=sampler.shot,
                    query=sampler.query,
                    persons=images.persons,
                )
            )
    if not samplers:
        raise EpisodeImpossible(
            f"{kin.max() + 1} images are too few for episodes of clusters "
            f"({sampler.way}-way, {needed} images each)"
        )
    return samplers


def _one_of_each(kin: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(images,) true for one random image of each kin (images,)."""
    order = rng.permutation(len(kin))
    _, first = np.unique(kin[order], return_index=True)
    chosen = np.zeros(len(kin), dtype=bool)
    chosen[order[first]] = True
    return chosen
