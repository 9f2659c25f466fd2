"""Episodes: small classification problems drawn from a labelled set, for training and evaluation."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.errors import EpisodeImpossible


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """Image indices of one episode; row i of both arrays is of the same class."""

    classes: tuple[str, ...]
    support: npt.NDArray[np.int64]
    """(way, shot)"""
    query: npt.NDArray[np.int64]
    """(way, queries per class)"""


class EpisodeSampler:
    """Draws episodes: classes without replacement, then each class's images without replacement."""

    def __init__(
        self,
        labels: npt.NDArray[np.str_],
        *,
        classes: tuple[str, ...],
        way: int,
        shot: int,
        query: int,
    ) -> None:
        """labels: (images,). Raises: EpisodeImpossible, with the counts."""
        if min(way, shot, query) < 1:
            raise EpisodeImpossible(f"way, shot and query must be positive: {way}, {shot}, {query}")
        if len(set(classes)) != len(classes):
            raise EpisodeImpossible(f"classes are named twice in {', '.join(classes)}")
        if way > len(classes):
            raise EpisodeImpossible(f"{way}-way episodes need {way} classes, there are {len(classes)}")
        self.classes, self.way, self.shot, self.query = classes, way, shot, query
        self._images = {label: np.flatnonzero(labels == label) for label in classes}
        for label, images in self._images.items():
            if len(images) < shot + query:
                raise EpisodeImpossible(
                    f"{shot}-shot episodes with {query} queries need {shot + query} images a class, "
                    f"{label!r} has {len(images)}"
                )

    def draw(self, rng: np.random.Generator) -> Episode:
        """One episode; the same rng state gives the same episode."""
        chosen = rng.choice(len(self.classes), size=self.way, replace=False)
        classes = tuple(self.classes[index] for index in chosen)
        images = np.stack(
            [rng.choice(self._images[label], size=self.shot + self.query, replace=False) for label in classes]
        )
        return Episode(classes=classes, support=images[:, : self.shot], query=images[:, self.shot :])
