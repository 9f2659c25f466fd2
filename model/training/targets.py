"""What the encoder learns to predict for each training image, and labels from annotators' votes.

The votes are those of FER+: Barsoum et al., "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016. They are named as FER2013 names its expressions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.errors import DatasetInvalid
from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.vision.blendshapes import BLENDSHAPE_COUNT, BLENDSHAPE_NAMES

NO_EXPRESSION = ""
_VOTED = "neutral happy surprise sad angry disgust fear contempt"
VOTED = tuple(_VOTED.split())
"""Labels of the columns of votes that are expressions; two more columns follow: unknown and no_face"""
LEAST_VOTES = 3
"""An image needs this many of its ten votes for the classes that are trained on"""
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


def majority_labels(votes: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """(images,) labels with the most votes (images, 10).

    The label is NO_EXPRESSION for an image without votes, for a tie at the top, and for an image that most
    annotators called unknown or no face.
    """
    highest = votes.max(axis=1, keepdims=True)
    is_single = (votes == highest).sum(axis=1) == 1
    labels = np.array([*VOTED, NO_EXPRESSION, NO_EXPRESSION])[votes.argmax(axis=1)]
    return np.where(is_single, labels, NO_EXPRESSION)


def label_by_votes(images: PreparedImages) -> PreparedImages:
    """Select the images that have a majority label, and give them that label.

    Raises: DatasetInvalid if there are none.
    """
    labels = majority_labels(images.votes)
    chosen = labels != NO_EXPRESSION
    if not chosen.any():
        raise DatasetInvalid(
            f"none of the {len(images)} images has votes with a majority: run `csrn prepare` with --votes"
        )
    return dataclasses.replace(images.select(chosen), labels=labels[chosen])


def voted_classes(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Classes of the votes' head: the classes trained on, plus contempt if they are all of FER2013's."""
    complete = set(VOTED[:-1]) <= set(classes)
    return tuple(name for name in VOTED if name in classes or complete)


def voted_names(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.str_]:
    """(images,) majority labels of votes (images, 10); NO_EXPRESSION for a class that is not trained on."""
    names = majority_labels(votes)
    return np.where(np.isin(names, voted_classes(classes)), names, NO_EXPRESSION)


def vote_shares(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """(images, voted classes) shares of votes (images, 10); zeros if too few votes are for these classes."""
    kept = votes[:, [VOTED.index(name) for name in voted_classes(classes)]]
    total = kept.sum(axis=1, keepdims=True)
    enough = (total >= LEAST_VOTES) & (kept.max(axis=1, initial=0) >= votes.max(axis=1, initial=0))[:, None]
    shares: npt.NDArray[np.float32] = np.where(enough, kept / np.maximum(total, 1), 0).astype(np.float32)
    return shares


def shows_another_class(votes: npt.NDArray[np.int64], classes: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """(images,) whether most votes (images, 10) are for another class, for unknown or for no face.

    Training leaves such images out, whatever their label, because it must see nothing of other classes.
    """
    kept = [VOTED.index(name) for name in voted_classes(classes)]
    if not kept:
        return np.zeros(len(votes), dtype=bool)
    others = [column for column in range(votes.shape[1]) if column not in kept]
    of_others, of_kept = (votes[:, columns].max(axis=1, initial=0) for columns in (others, kept))
    most: npt.NDArray[np.bool_] = of_others >= np.maximum(of_kept, 1)
    return most
