"""Support sets: labelled examples, their form for scoring, and the scores of queries with them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.networks.csrn import FACE
from model.networks.relation import Half
from model.vision.patches import PART_COUNT

Features = npt.NDArray[np.float16]
"""Features of one or more faces, (..., numbers) float16: the feature maps of face, eyes and lips one after
the other, then the blendshape coefficients if the checkpoint has geometry. Sessions store these."""
Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled face of a support set."""

    example_id: str
    label: str
    features: Features
    """(numbers,) float16, of the checkpoint's network"""
    image_sha256: bytes | None = None
    """SHA-256 of the image's bytes. The session store finds repeated images with it. None if it is unknown"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportSet:
    """A support set ready for scoring, on the device. Classes may have unequal shots."""

    labels: tuple[str, ...]
    """One per class, in order of first appearance"""
    example_ids: tuple[str, ...]
    """One per example, class by class"""
    shots: Indices
    """(classes,) number of examples of each class"""
    halves: Half
    """(3 * examples + classes,) support halves of the folded relation module, class by class: the faces of
    the class's examples, then their eyes, then their lips, then the selected prototype"""
    class_directions: Tensor
    """(classes, D) directions of the class means of the parts of `CSRN.describe`, one part after the other"""
    unknown_below: float
    """A face whose best class score is below this belongs to none of the classes"""

    @property
    def size_bytes(self) -> int:
        """Device memory that the support set takes."""
        tensors = self.halves.convolved, self.halves.direction, self.class_directions
        return sum(tensor.nbytes for tensor in tensors)

    @functools.cached_property
    def first_examples(self) -> Indices:
        """(classes,) index of the first example of each class."""
        firsts: Indices = np.cumsum(self.shots) - self.shots
        return firsts

    @functools.cached_property
    def part_of_half(self) -> Indices:
        """(halves,) the part of a query that each half meets."""
        parts = np.tile([0, 1, 2, FACE], len(self.shots))
        return np.repeat(parts, self._runs)

    @functools.cached_property
    def first_halves(self) -> Indices:
        """(4 * classes,) index of the first half of the faces, eyes, lips and prototype of each class."""
        firsts: Indices = np.cumsum(self._runs) - self._runs
        return firsts

    @functools.cached_property
    def halves_of_example(self) -> Indices:
        """(examples, 3 parts) index of the half of each part of each example."""
        first = np.repeat(self.first_halves[:: PART_COUNT + 1] - self.first_examples, self.shots)
        step = np.repeat(self.shots, self.shots)
        faces = first + np.arange(len(self.example_ids))
        halves: Indices = faces[:, None] + step[:, None] * np.arange(PART_COUNT)
        return halves

    @functools.cached_property
    def _runs(self) -> Indices:
        """(4 * classes,) number of halves of the faces, eyes, lips and prototype of each class."""
        return np.stack([self.shots] * PART_COUNT + [np.ones_like(self.shots)], axis=1).ravel()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairScores:
    """Relation scores of queries with their support sets.

    A pair is a query with an example of its support set, ordered query by query, then example by example.
    A row is a query with a class of its support set, ordered query by query, then class by class.
    """

    of_classes: Scores
    """(rows, 4) means over the shots of face, eyes and lips, and the score of the prototype"""
    of_pairs: Scores
    """(pairs, 3 parts)"""
    nearest: Indices
    """(rows,) index of the example of the class with the highest mean over the parts, or the first of several
    such examples. The index counts the examples of one support set."""

    @classmethod
    def of(cls, scores: Scores, supports: Sequence[SupportSet]) -> PairScores:
        """Compute the scores of pairs and classes from those of support halves.

        Args:
            scores: (halves,) query by query, then in the order of `SupportSet.halves`.
            supports: one for each query.
        """
        starts = itertools.accumulate((len(support.part_of_half) for support in supports), initial=0)
        placed = [*zip(supports, starts, strict=False)]
        shots = _joined([support.shots for support in supports])
        runs = _joined([support.first_halves + start for support, start in placed])
        sums = np.add.reduceat(scores, runs).reshape(-1, PART_COUNT + 1)
        sums[:, :PART_COUNT] /= shots[:, None]

        of_pairs = scores[_joined([support.halves_of_example + start for support, start in placed])]
        totals = of_pairs.sum(axis=1)
        firsts = np.cumsum(shots) - shots
        best = np.maximum.reduceat(totals, firsts)
        candidates = np.where(totals >= np.repeat(best, shots), np.arange(len(totals)), len(totals))
        within = _joined([support.first_examples for support in supports]) - firsts
        nearest: Indices = np.minimum.reduceat(candidates, firsts) + within
        return cls(of_classes=sums, of_pairs=of_pairs, nearest=nearest)


def _joined(arrays: Sequence[Indices]) -> Indices:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
