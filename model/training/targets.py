"""What the encoder learns to predict for each training image, both for the image and its mirror image."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.training.voted_labels import vote_shares
from model.vision.blendshapes import BLENDSHAPE_COUNT, BLENDSHAPE_NAMES

LABEL_SMOOTHING = 0.1
MAX_DEVIATIONS = 4.0
"""Landmark components further from their mean usually come from misplaced landmarks"""
_MIRRORED_NAMES = [
    name.replace("Left", "?").replace("Right", "Left").replace("?", "Right") for name in BLENDSHAPE_NAMES
]
MIRROR_BLENDSHAPES = np.array([BLENDSHAPE_NAMES.index(name) for name in _MIRRORED_NAMES])
"""(52,) for each coefficient, its counterpart in the mirror image of the face"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets of images; `components` and `blendshapes` are given for each image and its mirror image."""

    labels: npt.NDArray[np.float32]
    """(images, classes) smoothed shares"""
    votes: npt.NDArray[np.float32]
    """(images, voted classes) shares of the votes; zeros for an image with too few"""
    components: npt.NDArray[np.float32]
    """(images, 2, components)"""
    blendshapes: npt.NDArray[np.float32]
    """(images, 2, 52) standardised square roots; zeros if the teacher found no face"""
    has_blendshapes: npt.NDArray[np.float32]
    """(images,) 1 or 0"""

    def by_name(self) -> dict[str, npt.NDArray[np.float32]]:
        """The targets that the images have."""
        names = ("labels", "votes", "components", "blendshapes")
        return {name: getattr(self, name) for name in names if getattr(self, name).any()}

    def of(self, chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Targets of the chosen images; mirrored (chosen,) is 1 for a mirror image, else 0."""
        return {
            "labels": torch.from_numpy(self.labels[chosen]),
            "votes": torch.from_numpy(self.votes[chosen]),
            "components": torch.from_numpy(self.components[chosen, mirrored]),
            "blendshapes": torch.from_numpy(self.blendshapes[chosen, mirrored]),
            "has_blendshapes": torch.from_numpy(self.has_blendshapes[chosen]),
        }


def build_targets(
    images: PreparedImages, components: LandmarkComponents, *, classes: tuple[str, ...]
) -> Targets:
    """Build the targets of labelled images; the shares ignore votes for classes that are not given."""
    points = images.landmarks()[..., :2]
    labels = np.array([classes.index(label) for label in images.labels.tolist()])
    one_hot = np.eye(len(classes), dtype=np.float32)[labels]
    coefficients, found = blendshapes_of(images)
    roots = np.sqrt(coefficients)
    both = [roots, roots]
    if found.any():
        mean, deviation = roots[found].mean(axis=0), roots[found].std(axis=0) + np.float32(1e-3)
        both = [(each - mean) / deviation for each in (roots, roots[:, MIRROR_BLENDSHAPES])]
    has_blendshapes = found.astype(np.float32)
    shapes = np.stack([components.of(points), components.of(points, mirrored=True)], axis=1)
    return Targets(
        labels=one_hot * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / len(classes),
        votes=vote_shares(images.votes, classes),
        components=shapes.clip(-MAX_DEVIATIONS, MAX_DEVIATIONS),
        blendshapes=np.stack(both, axis=1).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        * has_blendshapes[:, None, None],
        has_blendshapes=has_blendshapes,
    )


def blendshapes_of(images: PreparedImages) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Coefficients (images, 52) and (images,) bool: zeros and False for an image without coefficients."""
    if images.all_blendshapes is None:
        return np.zeros((len(images), BLENDSHAPE_COUNT), dtype=np.float32), np.zeros(len(images), bool)
    coefficients = images.blendshapes()
    found = ~np.isnan(coefficients[:, 0])
    return np.nan_to_num(coefficients), found
