"""Support sets: labelled examples as features, and made ready for scoring."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from torch import Tensor

Features = npt.NDArray[np.float16]
"""Feature maps of one or more faces, (..., 3 parts, C, H, W) float16: what a session stores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled face of a support set."""

    example_id: str
    label: str
    features: Features
    """(3 parts, C, H, W) float16, of the checkpoint's encoder"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportSet:
    """A support set made ready for scoring, on the device. Classes may have unequal shots."""

    labels: tuple[str, ...]
    """One per class, in order of first appearance."""
    example_ids: tuple[str, ...]
    """One per example, classes one after the other."""
    class_of_example: npt.NDArray[np.int64]
    """(examples,) ascending"""
    example_halves: Tensor
    """(examples, 3 parts, 4, positions, 64): support halves of the folded relation module"""
    prototype_halves: Tensor
    """(classes, 4, positions, 64): those of the selected prototypes"""
    class_descriptors: Tensor | None
    """(classes, D): mean descriptors for the cosine part, None where the checkpoint has none"""

    @property
    def size_bytes(self) -> int:
        """What it takes of the device's memory."""
        tensors = (self.example_halves, self.prototype_halves, self.class_descriptors)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)
