"""Scorers that classify the queries of episodes: CSRN, equal to the service, and baselines."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from model.classifier import Classifier
from model.networks.csrn import FACE
from model.networks.episode_scores import cosine_similarity, score_halves
from model.networks.relation import Half, select_prototypes
from model.support_set import Indices
from model.training.prepared import PreparedImages
from model.unknown import SessionStatistics, describe_session

ENCODE_BATCH = 128
PAIRS_AT_ONCE = 4096
"""Episodes are scored together up to about this many pairs; more do not fit in the processor's cache"""
COSINE, GEOMETRY = BASELINES = "cosine", "geometry"
"""Names of the baselines: the same encoder without relation scores, and the blendshapes alone"""


class EpisodeScorer(Protocol):
    """Scores the queries of episodes over a fixed set of images."""

    weights_sha256: str

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """Scores (episodes, queries, way) for image indices (episodes, way, shot) and (episodes, queries)."""


class ThresholdScorer(EpisodeScorer, Protocol):
    """A scorer that also computes the thresholds of sessions."""

    def statistics(self, support: Indices) -> list[SessionStatistics]:
        """What the threshold rule needs to know about each support set, one SessionStatistics per episode.

        Args: support, image indices (episodes, way, shot).
        """

    def thresholds(self, support: Indices) -> Tensor:
        """`unknown_below` (episodes,) of each episode's support set (episodes, way, shot)."""


class RelationScorer:
    """CSRN's parts and class scores; equal to the service's, except that halves are rounded to float16."""

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """features: from `encode_images`, of every image."""
        self.weights_sha256 = classifier.checkpoint.sha256
        self.part_names = classifier.part_names
        self._config = classifier.checkpoint.config
        self.part_weights = self._config.part_weights.by_name()
        self._classifier, self._features = classifier, features
        network = classifier.network
        support, query, described = [], [], []
        for batch in torch.split(features, ENCODE_BATCH):
            faces = network.unpack(batch.to(classifier.device))
            support.append(network.support_half(faces.maps))
            query.append(network.query_half(faces.maps))
            described.append(network.describe(faces))
        self._support_halves, self._query_halves = _joined(support), _joined(query)
        self._descriptions = {name: torch.cat([batch[name] for batch in described]) for name in described[0]}

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """Class scores (episodes, queries, way) with the checkpoint's part weights."""
        return self.weigh(self.class_parts(support, query), self.part_weights)

    @torch.inference_mode()
    def class_parts(self, support: Indices, query: Indices) -> Tensor:
        """Class parts (episodes, queries, way, parts) in the order of `part_names`; the costly step."""
        pairs = query.shape[1] * (support[0].size * 3 + support.shape[1])
        together = max(1, PAIRS_AT_ONCE // pairs)
        return torch.cat(
            [
                self._score(support[start : start + together], query[start : start + together])
                for start in range(0, len(support), together)
            ]
        )

    def weigh(self, class_parts: Tensor, weights: dict[str, float]) -> Tensor:
        """Class scores (..., way) from class parts (..., way, parts), with weights that are not all 0."""
        by_part = class_parts.new_tensor([weights[name] for name in self.part_names])
        return (class_parts @ by_part / by_part.sum()).clamp(0, 1)

    @torch.inference_mode()
    def statistics(self, support: Indices) -> list[SessionStatistics]:
        """Statistics of each episode's support set (episodes, way, shot)."""
        weights = {name: self.part_weights[name] for name in self._descriptions}
        way, shot = support.shape[1:]
        found = []
        with _one_thread():
            for episode in support:
                chosen = torch.from_numpy(episode.ravel())
                described = {name: values[chosen] for name, values in self._descriptions.items()}
                found.append(describe_session(described, np.arange(way).repeat(shot), weights))
        return found

    def thresholds(self, support: Indices) -> Tensor:
        """`unknown_below` (episodes,) of each episode's support set (episodes, way, shot)."""
        return torch.tensor([self._config.unknown_below(found) for found in self.statistics(support)])

    def _score(self, support: Indices, query: Indices) -> Tensor:
        network = self._classifier.network
        chosen, queries = torch.from_numpy(support), torch.from_numpy(query)
        faces = network.unpack(self._features[chosen].to(self._classifier.device)).maps[..., FACE, :, :, :]
        scores = score_halves(
            network,
            support_halves=_whole(self._support_halves[chosen]),
            prototype_halves=network.support_half(select_prototypes(faces), FACE),
            query_halves=_whole(self._query_halves[queries]),
            class_means={name: found[chosen].mean(dim=2) for name, found in self._descriptions.items()},
            query_descriptions={name: found[queries] for name, found in self._descriptions.items()},
        )
        return scores.class_parts().cpu()


class MeanScorer:
    """A baseline: the nearest class mean by the cosine of one description per image."""

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor, *, baseline: str) -> None:
        """Describe every image.

        Args:
            features: from `encode_images`, of every image.
            baseline: COSINE describes an image by the spatial means of its feature maps, standardised if the
                checkpoint has the mean and deviation of the channels; GEOMETRY by its blendshapes.
        """
        self.weights_sha256 = classifier.checkpoint.sha256
        network, described = classifier.network, []
        for batch in torch.split(features, ENCODE_BATCH):
            faces = network.unpack(batch.to(classifier.device))
            if baseline == GEOMETRY:
                description = network.describe(faces)["geometry"]
            else:
                pooled = network.pooled
                description = (faces.means if pooled is None else pooled(faces.means)).flatten(1)
            described.append(description.cpu())
        self._descriptions = torch.cat(described)

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """Cosines (episodes, queries, way)."""
        means = self._descriptions[torch.from_numpy(support)].mean(dim=2)
        return cosine_similarity(means, self._descriptions[torch.from_numpy(query)])


def encode_images(
    classifier: Classifier,
    images: PreparedImages,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Tensor:
    """Features (images, numbers) float16 on the CPU, in the form that a session stores.

    Args: progress, called with (stage, images done, images in total).
    """
    encoded = []
    points, layout = images.landmarks()[:, :, :2], classifier.checkpoint.config.patches
    for start in range(0, len(images), ENCODE_BATCH):
        batch = slice(start, start + ENCODE_BATCH)
        patches = images.patches(batch, layout)
        encoded.append(torch.from_numpy(classifier.encode(patches, points[batch])))
        progress("encoding", start + len(patches), len(images))
    return torch.cat(encoded)


def _joined(halves: list[Half]) -> Half:
    """The halves of all images; the convolved maps take most memory, so they are rounded to float16."""
    return Half(
        convolved=torch.cat([half.convolved.half() for half in halves]),
        direction=torch.cat([half.direction for half in halves]),
    )


def _whole(half: Half) -> Half:
    return Half(convolved=half.convolved.float(), direction=half.direction)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: for tiny operations, waiting for a second thread takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
