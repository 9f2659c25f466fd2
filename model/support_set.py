"""Support sets: labelled examples as features, and made ready for scoring."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from torch import Tensor

from model.networks.relation import Half

Features = npt.NDArray[np.float16]
"""Features of one or more faces, (..., numbers) float16: the feature maps of face, eyes and lips one after
the other, then the blendshape coefficients if the checkpoint has geometry. This is what a session stores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled face of a support set."""

    example_id: str
    label: str
    features: Features
    """(numbers,) float16, of the checkpoint's network"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportSet:
    """A support set made ready for scoring, on the device. Classes may have unequal shots."""

    labels: tuple[str, ...]
    """One per class, in order of first appearance."""
    example_ids: tuple[str, ...]
    """One per example, classes one after the other."""
    class_of_example: npt.NDArray[np.int64]
    """(examples,) ascending"""
    example_halves: Half
    """(examples, 3 parts) of the folded relation module"""
    prototype_halves: Half
    """(classes,): those of the selected prototypes"""
    class_means: dict[str, Tensor]
    """(classes, D): mean descriptions of each of the network's `mean_parts`"""
    unknown_below: float
    """Class score below which a face is taken for none of the classes"""

    @property
    def size_bytes(self) -> int:
        """Device memory that it takes."""
        halves = (self.example_halves, self.prototype_halves)
        return sum(half.convolved.nbytes + half.direction.nbytes for half in halves) + sum(
            means.nbytes for means in self.class_means.values()
        )
