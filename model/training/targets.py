"""What the encoder learns to say of each training image, as seen and as seen in a mirror."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.training.geometry import LandmarkComponents
from model.training.labels import LABEL_OF_VOTE, NO_EXPRESSION, majority_labels
from model.training.prepared import PreparedImages
from model.vision.blendshapes import BLENDSHAPE_NAMES

VOTED = LABEL_OF_VOTE[:8]
"""The votes' columns that are expressions"""
LEAST_VOTES = 3
"""Votes for the classes that an image needs, of ten"""
LABEL_SMOOTHING = 0.1
MAX_DEVIATIONS = 4.0
"""Landmark components further out are misplaced landmarks more often than expressions"""

MIRROR_BLENDSHAPES = np.array(
    [
        BLENDSHAPE_NAMES.index(name.replace("Left", "?").replace("Right", "Left").replace("?", "Right"))
        for name in BLENDSHAPE_NAMES
    ]
)
"""(52,) which coefficient of a face each one of its mirror image is"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Targets:
    """One row an image; second dimension of `components` and `blendshapes`: as seen, in a mirror."""

    labels: npt.NDArray[np.float32]
    """(images, classes) shares, smoothed"""
    votes: npt.NDArray[np.float32]
    """(images, voted classes) shares of the votes; zeros where an image has too few"""
    components: npt.NDArray[np.float32]
    """(images, 2, components)"""
    blendshapes: npt.NDArray[np.float32]
    """(images, 2, 52) standardised square roots; zeros where the teacher found no face"""
    has_blendshapes: npt.NDArray[np.float32]
    """(images,) 1 or 0"""

    def by_name(self) -> dict[str, npt.NDArray[np.float32]]:
        """The targets that the images have."""
        every = {
            "labels": self.labels,
            "votes": self.votes,
            "components": self.components,
            "blendshapes": self.blendshapes,
        }
        return {name: values for name, values in every.items() if values.any()}

    def of(self, chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Targets of the chosen images, some of which are mirrored (1, else 0)."""
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
    """Targets of labelled images; votes for other classes than these are left out of the shares."""
    points = images.landmarks()[..., :2]
    labels = np.array([classes.index(label) for label in images.labels.tolist()])
    one_hot = np.eye(len(classes), dtype=np.float32)[labels]
    coefficients, found = blendshapes_of(images)
    roots = np.sqrt(coefficients)
    if found.any():
        mean, deviation = roots[found].mean(axis=0), roots[found].std(axis=0) + np.float32(1e-3)
        seen = [(each - mean) / deviation for each in (roots, roots[:, MIRROR_BLENDSHAPES])]
    else:
        seen = [roots, roots]
    return Targets(
        labels=one_hot * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / len(classes),
        votes=vote_shares(images.votes, classes),
        components=np.stack([components.of(points), components.of(points, mirrored=True)], axis=1).clip(
            -MAX_DEVIATIONS, MAX_DEVIATIONS
        ),
        blendshapes=np.stack(seen, axis=1).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        * found[:, None, None].astype(np.float32),
        has_blendshapes=found.astype(np.float32),
    )


def voted_classes(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Classes of the votes' head: those trained on, and contempt where all of FER2013's are."""
    whole = set(VOTED[:-1]) <= set(classes)
    return tuple(name for name in VOTED if name in classes or whole)


def vote_shares(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(images, voted classes) shares of votes (images, 10); zeros where too few of them are for a class."""
    kept = votes[:, [VOTED.index(name) for name in voted_classes(classes)]]
    total = kept.sum(axis=1, keepdims=True)
    enough = (total >= LEAST_VOTES) & (kept.max(axis=1, initial=0) >= votes.max(axis=1, initial=0))[:, None]
    shares: npt.NDArray[np.float32] = np.where(enough, kept / np.maximum(total, 1), 0).astype(np.float32)
    return shares


def shown_elsewhere(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """(images,) whether most votes (images, 10) are for none of the classes, or for no expression at all.

    Such an image shows something that training must not see, whatever its label says.
    """
    if not voted_classes(classes):
        return np.zeros(len(votes), dtype=bool)
    others = [i for i in range(votes.shape[1]) if i >= len(VOTED) or VOTED[i] not in voted_classes(classes)]
    kept = [index for index, name in enumerate(VOTED) if name in voted_classes(classes)]
    most: npt.NDArray[np.bool_] = votes[:, others].max(axis=1, initial=0) >= np.maximum(
        votes[:, kept].max(axis=1, initial=0), 1
    )
    return most


def voted_names(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.str_]:
    """(images,) the class that most of the votes (images, 10) are for; "" if that is not trained on."""
    names = majority_labels(votes)
    return np.where(np.isin(names, voted_classes(classes)), names, NO_EXPRESSION)


def blendshapes_of(images: PreparedImages) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Coefficients (images, 52), and (images,) bool; zeros and False where there are none."""
    if images.all_blendshapes is None:
        return np.zeros((len(images), len(BLENDSHAPE_NAMES)), dtype=np.float32), np.zeros(len(images), bool)
    coefficients = images.blendshapes()
    found = ~np.isnan(coefficients[:, 0])
    return np.nan_to_num(coefficients), found
