"""Labels by the majority of ten annotators: the votes of FER+ in the names of FER2013's expressions.

FER+ is Barsoum et al., "Training deep networks for facial expression recognition with crowd-sourced label
distribution", ICMI 2016.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid
from model.training.prepared import PreparedImages

NO_EXPRESSION = ""
LABEL_OF_VOTE = (
    "neutral",
    "happy",
    "surprise",
    "sad",
    "angry",
    "disgust",
    "fear",
    "contempt",
    NO_EXPRESSION,
    NO_EXPRESSION,
)
"""The label of each column of votes; the last two are `unknown` and `no_face`"""


def majority_labels(votes: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """(images,) labels with the most votes (images, 10).

    NO_EXPRESSION stands for an image without votes, for a tie at the top, and for one that most annotators
    called unknown or no face.
    """
    highest = votes.max(axis=1, keepdims=True)
    is_single = (votes == highest).sum(axis=1) == 1
    labels = np.array(LABEL_OF_VOTE)[votes.argmax(axis=1)]
    return np.where(is_single, labels, NO_EXPRESSION)


def label_by_votes(images: PreparedImages) -> PreparedImages:
    """The images that have a majority label, with that label.

    Raises: DatasetInvalid if there are none.
    """
    labels = majority_labels(images.votes)
    chosen = labels != NO_EXPRESSION
    if not chosen.any():
        raise DatasetInvalid(
            f"none of the {len(images)} images has votes with a majority: run `csrn prepare` with --votes"
        )
    return dataclasses.replace(images.select(chosen), labels=labels[chosen])
