"""Labels and soft targets from annotators' votes, in the names of FER2013's expressions.

The votes are those of FER+: Barsoum et al., "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid
from model.training.prepared import PreparedImages

NO_EXPRESSION = ""
_VOTED = "neutral happy surprise sad angry disgust fear contempt"
VOTED = tuple(_VOTED.split())
"""Labels of the columns of votes that are expressions; two more columns follow: unknown and no_face"""
LEAST_VOTES = 3
"""An image needs this many of its ten votes for the classes that are trained on"""


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
