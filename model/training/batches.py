"""Training batches: augmented patches of random images, alone with their targets or in episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import EpisodeImpossible
from model.training.episodes import EpisodeSampler
from model.training.landmark_components import cluster_faces
from model.training.patch_reader import PatchReader
from model.training.prepared import PreparedImages
from model.training.targets import Targets
from model.training.teacher import TeacherTargets

CLUSTERINGS, CLUSTERS = 30, 16
WHOLE_FACES = 0.5
"""Share of a batch's images whose eye and lip patches are used too; the others contribute the face alone"""


class LabelBatches:
    """Batches of labelled images with their targets; rare classes are drawn more often."""

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
        """labels: (images,) class numbers. batch: images in a batch. size_px: side of the patches."""
        self._reader, self._targets, self._teacher = reader, targets, teacher
        self._batch, self._size_px = batch, size_px
        # A compromise between the data's class shares and equal shares.
        weights = 1 / np.sqrt(np.maximum(np.bincount(labels), 1))[labels]
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Patches for `WarmUp` (all faces first, then eyes, then lips of some images) and their targets."""
        chosen = rng.choice(len(self._weights), self._batch, p=self._weights)
        pixels, is_mirrored = self._reader.read(chosen, rng, size_px=self._size_px)
        whole = max(round(WHOLE_FACES * len(pixels)), 1)
        patches = torch.cat([pixels[:, 0], pixels[:whole, 1], pixels[:whole, 2]])
        mirrored = is_mirrored.numpy().astype(np.int64)
        targets = self._targets.of(chosen, mirrored)
        if self._teacher is not None:
            targets = self._teacher.add_to(targets, chosen, mirrored)
        return patches, targets


class EpisodeBatches:
    """Batches of episodes with several kinds of classes: labels, and clusters of faces.

    Clusters have no label noise, and each clustering groups faces by other properties. So the relation module
    learns to compare faces in general instead of the labels of one data set.
    """

    def __init__(
        self, reader: PatchReader, kinds: Sequence[Sequence[EpisodeSampler]], *, episodes: int
    ) -> None:
        """kinds: samplers of each kind of classes, all of one way and shot. episodes: number in a batch."""
        self._reader, self._kinds, self._episodes = reader, kinds, episodes

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, int]:
        """Pixels and shot for `EpisodeObjective`."""
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
) -> list[EpisodeSampler]:
    """Samplers shaped like `sampler`, whose classes are clusters of descriptions (images, D).

    Raises: EpisodeImpossible if the clusters are too small.
    """
    _, kin = np.unique(images.kin, return_inverse=True)
    needed = sampler.shot + sampler.query
    clusters = max(sampler.way, min(CLUSTERS, (kin.max() + 1) // (2 * needed)))
    samplers = []
    for _ in range(CLUSTERINGS):
        names = cluster_faces(descriptions, clusters=clusters, rng=rng).astype(np.str_)
        # The frames of a video look alike and fall into one class. One of them, chosen at random, stays.
        names[~_one_of_each(kin, rng)] = ""
        found, counts = np.unique(names, return_counts=True)
        kept = tuple(name for name, count in zip(found, counts, strict=True) if name and count >= needed)
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
