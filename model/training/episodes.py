"""Episodes: small classification problems drawn from labelled images, for training and evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import EpisodeImpossible

EPISODES_AT_ONCE = 64
DIVISIONS_TRIED = 200
"""An episode counts as impossible after this many random divisions of the persons"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Episode:
    """Image indices of one episode; row i of both arrays has the same class."""

    classes: tuple[str, ...]
    support: npt.NDArray[np.int64]
    """(way, shot)"""
    query: npt.NDArray[np.int64]
    """(way, queries per class)"""


class EpisodeSampler:
    """Draws episodes: classes without replacement, then images of each class without replacement.

    An episode takes at most one image per class from a group, such as the frames of a video. If persons are
    known, no person is both in the support set and among the queries. All images of a personal episode
    show one person.
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
        persons: npt.NDArray[np.str_] | None = None,
        personal: bool = False,
    ) -> None:
        """labels, groups, persons: (images,). An image with group "" is a group of its own; so with persons.

        Raises: EpisodeImpossible, which states the counts.
        """
        if min(way, shot, query) < 1:
            raise EpisodeImpossible(f"way, shot and query must be positive: {way}, {shot}, {query}")
        if len(set(classes)) != len(classes):
            raise EpisodeImpossible(f"classes are named twice in {', '.join(classes)}")
        if way > len(classes):
            raise EpisodeImpossible(f"{way}-way episodes need {way} classes, there are {len(classes)}")
        self.classes, self.way, self.shot, self.query = classes, way, shot, query
        self.personal = personal
        self._images = {label: _grouped(np.flatnonzero(labels == label), groups) for label in classes}
        for label, images in self._images.items():
            if len(images) < shot + query:
                frames = sum(len(group) for group in images)
                counted = f"{frames}" + (f" in {len(images)} groups" if len(images) < frames else "")
                raise EpisodeImpossible(
                    f"{shot}-shot episodes with {query} queries need {shot + query} images a class"
                    f"{' of different groups' if len(images) < frames else ''}, {label!r} has {counted}"
                )
        self._of_person: list[dict[str, list[npt.NDArray[np.int64]]]] = []
        self._persons: dict[str, npt.NDArray[np.int64]] | None = None
        if personal:
            self._of_person = self._by_person(persons)
        elif persons is not None and (persons != "").any():
            numbers = _person_numbers(persons, groups)
            self._persons = {
                label: numbers[[group[0] for group in images]] for label, images in self._images.items()
            }
            rng = np.random.default_rng(0)
            for label in classes:
                self._divide((label,), rng)
            self.draw(rng)

    def draw(self, rng: np.random.Generator) -> Episode:
        """Draw one episode; the same rng state gives the same episode.

        Raises: EpisodeImpossible if no division of the persons is found for the classes drawn.
        """
        images, names = self._images, self.classes
        if self.personal:
            images = self._of_person[rng.choice(len(self._of_person))]
            names = tuple(images)
        chosen = rng.choice(len(names), size=self.way, replace=False)
        classes = tuple(names[index] for index in chosen)
        if self._persons is None:
            drawn = np.array([self._draw_images(images[label], rng) for label in classes])
        else:
            drawn = np.array(
                [
                    [
                        *_one_of_each(images[label], rng.choice(support, size=self.shot, replace=False), rng),
                        *_one_of_each(images[label], rng.choice(query, size=self.query, replace=False), rng),
                    ]
                    for label, (support, query) in zip(classes, self._divide(classes, rng), strict=True)
                ]
            )
        return Episode(classes=classes, support=drawn[:, : self.shot], query=drawn[:, self.shot :])

    def draw_batches(
        self, count: int, rng: np.random.Generator
    ) -> Iterator[tuple[list[Episode], npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Draw `count` episodes in batches, with supports (n, way, shot) and queries (n, way, queries)."""
        for start in range(0, count, EPISODES_AT_ONCE):
            drawn = [self.draw(rng) for _ in range(min(EPISODES_AT_ONCE, count - start))]
            yield (
                drawn,
                np.stack([episode.support for episode in drawn]),
                np.stack([episode.query for episode in drawn]),
            )

    def _draw_images(self, groups: list[npt.NDArray[np.int64]], rng: np.random.Generator) -> list[int]:
        chosen = rng.choice(len(groups), size=self.shot + self.query, replace=False)
        return _one_of_each(groups, chosen, rng)

    def _divide(
        self, classes: tuple[str, ...], rng: np.random.Generator
    ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Divide the persons of the classes at random into those of the support set and those of the queries.

        Draws until each class has enough persons on both sides: in turn in the ratio of shots to queries, and
        in a random ratio.

        Returns: for each class, the indices of its groups for the support set and for the queries.
        """
        assert self._persons is not None
        persons = np.unique(np.concatenate([self._persons[label] for label in classes]))
        share = self.shot / (self.shot + self.query)
        for attempt in range(DIVISIONS_TRIED):
            count = round(len(persons) * (rng.random() if attempt % 2 else share))
            count = min(max(count, 1), max(len(persons) - 1, 1))
            in_support = rng.choice(persons, size=count, replace=False)
            sides = [np.isin(self._persons[label], in_support) for label in classes]
            if all(side.sum() >= self.shot and (~side).sum() >= self.query for side in sides):
                return [(np.flatnonzero(side), np.flatnonzero(~side)) for side in sides]
        counts = " persons, ".join(
            f"{label!r} has {len(self._persons[label])} images of {len(np.unique(self._persons[label]))}"
            for label in classes
        )
        raise EpisodeImpossible(
            f"no division of the persons gives each class {self.shot} support images of some persons and "
            f"{self.query} query images of others: {counts} persons"
        )

    def _by_person(
        self, persons: npt.NDArray[np.str_] | None
    ) -> list[dict[str, list[npt.NDArray[np.int64]]]]:
        """The images of each person with enough images of enough classes, grouped by class."""
        if persons is None or not (persons != "").any():
            raise EpisodeImpossible(
                "personal episodes need images with known persons: run `csrn prepare` with --person"
            )
        by_person: dict[str, dict[str, list[npt.NDArray[np.int64]]]] = {}
        for label, groups in self._images.items():
            for group in groups:
                for person in np.unique(persons[group]).tolist():
                    if person:
                        of_class = by_person.setdefault(person, {}).setdefault(label, [])
                        of_class.append(group[persons[group] == person])
        enough = [
            {label: groups for label, groups in images.items() if len(groups) >= self.shot + self.query}
            for images in by_person.values()
        ]
        most = max(map(len, enough), default=0)
        if most < self.way:
            raise EpisodeImpossible(
                f"personal {self.way}-way {self.shot}-shot episodes with {self.query} queries need a person "
                f"with {self.shot + self.query} images each of {self.way} classes; "
                f"none of the {len(by_person)} persons has them for more than {most}"
            )
        return [images for images in enough if len(images) >= self.way]


def classes_with_enough(labels: npt.NDArray[np.str_], **options: Any) -> tuple[str, ...]:
    """The classes with enough images for an episode, sorted by name; the label "" is not a class.

    Args: labels (images,); options, as for EpisodeSampler, but without classes and way.
    """

    def is_enough(label: str) -> bool:
        try:
            EpisodeSampler(labels, classes=(label,), way=1, **options)
        except EpisodeImpossible:
            return False
        return True

    return tuple(label for label in np.unique(labels).tolist() if label and is_enough(label))


def _one_of_each(
    groups: list[npt.NDArray[np.int64]],
    chosen: Sequence[int] | npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> list[int]:
    """One image from each of the chosen groups."""
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


def _person_numbers(
    persons: npt.NDArray[np.str_], groups: npt.NDArray[np.str_] | None
) -> npt.NDArray[np.int64]:
    """Numbers (images,) that are equal for images linked, directly or in a chain, by person or group."""
    numbers = np.arange(len(persons))
    alike = [
        np.unique([name or f"/{image}" for image, name in enumerate(names.tolist())], return_inverse=True)[1]
        for names in (persons, groups)
        if names is not None
    ]
    while True:
        joined = numbers
        for members in alike:
            lowest = np.full(members.max(initial=0) + 1, len(persons))
            np.minimum.at(lowest, members, joined)
            joined = lowest[members]
        if (joined == numbers).all():
            return numbers
        numbers = joined
