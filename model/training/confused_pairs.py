"""The classes that an evaluation confused most, with some of the faces that it classified wrongly."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
import numpy.typing as npt

from model.training.evaluate import Evaluation
from model.training.prepared import PreparedImages
from model.training.scorers import EpisodeScorer
from model.vision.patches import LayoutName

QUERIES_OF_PAIR = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """One image as the network sees it."""

    source: str
    patches: npt.NDArray[np.uint8]
    """(3 parts, size, size, 3)"""
    layout: LayoutName


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusedQuery:
    """A query that was classified wrongly, and the support image that it resembles most."""

    query: Face
    nearest: Face
    """The best match of the predicted class in the episodes with this mistake"""
    times: int
    """Number of episodes with this mistake"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """The queries of one class that were predicted to be of another."""

    label: str
    predicted: str
    count: int
    """Number of queries of `label` that were classified as `predicted`"""
    share: float
    """The count, as a share of all queries of `label`"""
    queries: tuple[ConfusedQuery, ...]
    """The most frequent mistakes, of different images"""


def find_confused_pairs(
    evaluation: Evaluation,
    images: PreparedImages,
    scorer: EpisodeScorer,
    *,
    layout: LayoutName,
    pairs: int,
) -> tuple[ConfusedPair, ...]:
    """The pairs of classes with the largest share of mistakes, at most `pairs`.

    Args: evaluation, of the scorer on the images; layout, of the patches to show.
    """
    shares = {
        (label, predicted): count / sum(row.values())
        for label, row in evaluation.confusion.items()
        for predicted, count in row.items()
        if count and predicted != label
    }
    true, chosen = images.labels[evaluation.mistakes[:, :2]].T

    def face(index: int) -> Face:
        patches = images.patches(np.array([index]), layout)[0]
        return Face(source=str(images.sources[index]), patches=patches, layout=layout)

    def confused_query(query: int, times: int, mistakes: npt.NDArray[np.int64]) -> ConfusedQuery:
        support = np.unique(mistakes[mistakes[:, 0] == query, 1:])
        # Each support image is a class of its own here, so that the scores say which one is nearest.
        scores = scorer.class_scores(support[None, :, None], np.array([[query]]))
        nearest = int(support[int(scores.argmax())])
        return ConfusedQuery(query=face(query), nearest=face(nearest), times=times)

    def confused_pair(label: str, predicted: str) -> ConfusedPair:
        mistakes = evaluation.mistakes[(true == label) & (chosen == predicted)]
        frequent = collections.Counter(mistakes[:, 0].tolist()).most_common(QUERIES_OF_PAIR)
        return ConfusedPair(
            label=label,
            predicted=predicted,
            count=evaluation.confusion[label][predicted],
            share=shares[label, predicted],
            queries=tuple(confused_query(query, times, mistakes) for query, times in frequent),
        )

    most_confused = sorted(shares, key=lambda pair: -shares[pair])[:pairs]
    return tuple(confused_pair(*pair) for pair in most_confused)
