"""Episodes: small classification problems drawn from a labelled set, for training and evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from model.errors import EpisodeImpossible

EPISODES_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """Image indices of one episode; row i of both arrays is of the same class."""

    classes: tuple[str, ...]
    support: npt.NDArray[np.int64]
    """(way, shot)"""
    query: npt.NDArray[np.int64]
    """(way, queries per class)"""


class EpisodeSampler:
    """Draws episodes: classes without replacement, then each class's images without replacement.

    Of a group, such as the frames of one video, an episode takes one image at most.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.str_],
        *,
        classes: tuple[str, ...],
        way: int,
        shot: int,
        query: int,
        groups: npt.NDArray[np.str_] | None = None,
    ) -> None:
        """labels, groups: (images,); "" or None is an image by itself.

        Raises: EpisodeImpossible, with the counts.
        """
        if min(way, shot, query) < 1:
            raise EpisodeImpossible(f"way, shot and query must be positive: {way}, {shot}, {query}")
        if len(set(classes)) != len(classes):
            raise EpisodeImpossible(f"classes are named twice in {', '.join(classes)}")
        if way > len(classes):
            raise EpisodeImpossible(f"{way}-way episodes need {way} classes, there are {len(classes)}")
        self.classes, self.way, self.shot, self.query = classes, way, shot, query
        self._images = {label: _grouped(np.flatnonzero(labels == label), groups) for label in classes}
        for label, images in self._images.items():
            if len(images) < shot + query:
                frames = sum(len(group) for group in images)
                counted = f"{frames}" + (f" in {len(images)} groups" if len(images) < frames else "")
                raise EpisodeImpossible(
                    f"{shot}-shot episodes with {query} queries need {shot + query} images a class"
                    f"{' of different groups' if len(images) < frames else ''}, {label!r} has {counted}"
                )

    def draw(self, rng: np.random.Generator) -> Episode:
        """One episode; the same rng state gives the same episode."""
        chosen = rng.choice(len(self.classes), size=self.way, replace=False)
        classes = tuple(self.classes[index] for index in chosen)
        images = np.array([self._draw_images(self._images[label], rng) for label in classes])
        return Episode(classes=classes, support=images[:, : self.shot], query=images[:, self.shot :])

    def draw_batches(
        self, count: int, rng: np.random.Generator
    ) -> Iterator[tuple[list[Episode], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """`count` episodes, some at once, with supports (n, way, shot) and queries (n, way, queries)."""
        for start in range(0, count, EPISODES_AT_ONCE):
            drawn = [self.draw(rng) for _ in range(min(EPISODES_AT_ONCE, count - start))]
            yield (
                drawn,
                np.stack([episode.support for episode in drawn]),
                np.stack([episode.query for episode in drawn]),
            )

    def _draw_images(self, groups: list[npt.NDArray[np.int64]], rng: np.random.Generator) -> list[int]:
        chosen = rng.choice(len(groups), size=self.shot + self.query, replace=False)
        return [
            int(group[0] if len(group) == 1 else rng.choice(group))
            for group in (groups[index] for index in chosen)
        ]


def _grouped(
    images: npt.NDArray[np.int64], groups: npt.NDArray[np.str_] | None
) -> list[npt.NDArray[np.int64]]:
    """The images (images,) of each group, in order of first appearance."""
    by_group: dict[str, list[int]] = {}
    for image in images.tolist():
        name = str(groups[image]) if groups is not None else ""
        by_group.setdefault(name or f"/{image}", []).append(image)
    return [np.array(members, dtype=np.int64) for members in by_group.values()]
