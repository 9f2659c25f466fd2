"""Ways to classify the queries of episodes: CSRN as it is served, and the baselines beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.classifier import Classifier
from model.networks.relation import Half, cosine_similarity, score_halves_of_episodes, select_prototypes
from model.training.geometry import LandmarkComponents
from model.training.prepared import PreparedImages
from model.unknown import SessionStatistics, describe_session

ENCODE_BATCH = 128
PAIRS_AT_ONCE = 4096
"""Episodes are scored together up to about this many pairs: more would leave the processor's cache"""
LANDMARK_COMPONENTS = 20

Indices = npt.NDArray[np.int64]


class EpisodeScorer(Protocol):
    """Scores the queries of episodes over a fixed set of images."""

    weights_sha256: str | None
    """SHA-256 of the weights file, None without one"""

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """(episodes, queries, way) of image indices (episodes, way, shot) and (episodes, queries)."""


class ThresholdScorer(EpisodeScorer, Protocol):
    """A scorer that also gives what a session's threshold is computed from, and the threshold itself."""

    def statistics(self, support: Indices) -> list[SessionStatistics]:
        """Of each episode's support set (episodes, way, shot)."""

    def thresholds(self, support: Indices) -> Tensor:
        """(episodes,) `unknown_below` of each episode's support set (episodes, way, shot)."""


class RelationScorer:
    """CSRN's parts and class scores, equal to those that the service gives but for the rounding of halves."""

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """features: of every image, from `encode_images`."""
        self.weights_sha256: str | None = classifier.checkpoint.sha256
        self.part_names = classifier.part_names
        self.part_weights = classifier.checkpoint.config.part_weights.by_name()
        self._classifier, self._features = classifier, features
        network = classifier.network
        support, query, described = [], [], []
        for batch in torch.split(features, ENCODE_BATCH):
            faces = network.unpack(batch.to(classifier.device))
            support.append(network.support_half(faces.maps))
            query.append(network.query_half(faces.maps))
            described.append(network.describe(faces))
        self._support_halves, self._query_halves = _joined(support), _joined(query)
        self._descriptions = {
            name: torch.cat([batch[name] for batch in described]) for name in network.mean_parts
        }

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """(episodes, queries, way), weighed as the checkpoint says."""
        return self.weigh(self.class_parts(support, query), self.part_weights)

    @torch.inference_mode()
    def class_parts(self, support: Indices, query: Indices) -> Tensor:
        """(episodes, queries, way, parts) in the order of `part_names`: the costly step, for any weights."""
        pairs = query.shape[1] * (support[0].size * 3 + support.shape[1])
        together = max(1, PAIRS_AT_ONCE // pairs)
        return torch.cat(
            [
                self._score(support[start : start + together], query[start : start + together])
                for start in range(0, len(support), together)
            ]
        )

    def weigh(self, class_parts: Tensor, weights: dict[str, float]) -> Tensor:
        """Class scores (..., way) of class parts (..., way, parts) by weights that are not all 0."""
        by_part = class_parts.new_tensor([weights[name] for name in self.part_names])
        return (class_parts @ by_part / by_part.sum()).clamp(0, 1)

    @torch.inference_mode()
    def statistics(self, support: Indices) -> list[SessionStatistics]:
        """Of each episode's support set (episodes, way, shot), as a session of its own."""
        weights = {name: self.part_weights[name] for name in self._descriptions}
        with _one_thread():
            return [
                describe_session(self._described(episode), _classes_of(episode), weights)
                for episode in support
            ]

    @torch.inference_mode()
    def thresholds(self, support: Indices) -> Tensor:
        """(episodes,) `unknown_below` of each episode's support set (episodes, way, shot)."""
        unknown_below = self._classifier.unknown_below
        with _one_thread():
            return torch.tensor(
                [unknown_below(self._described(episode), _classes_of(episode)) for episode in support]
            )

    def _described(self, support: Indices) -> dict[str, Tensor]:
        """Descriptions (examples, D) of one episode's support set (way, shot), class by class."""
        chosen = torch.from_numpy(support.ravel())
        return {name: described[chosen] for name, described in self._descriptions.items()}

    def _score(self, support: Indices, query: Indices) -> Tensor:
        network = self._classifier.network
        chosen, asked = torch.from_numpy(support), torch.from_numpy(query)
        faces = network.unpack(self._features[chosen].to(self._classifier.device)).maps[..., 0, :, :, :]
        scores = score_halves_of_episodes(
            network,
            support_halves=_whole(self._support_halves[chosen]),
            prototype_halves=network.prototype_half(select_prototypes(faces)),
            query_halves=_whole(self._query_halves[asked]),
            class_means={name: found[chosen].mean(dim=2) for name, found in self._descriptions.items()},
            query_descriptions={name: found[asked] for name, found in self._descriptions.items()},
        )
        return scores.class_parts().cpu()


class MeanScorer:
    """Nearest class mean by cosine of one description per image."""

    def __init__(self, descriptions: Tensor, weights_sha256: str | None) -> None:
        """descriptions: (images, D)."""
        self.weights_sha256 = weights_sha256
        self._descriptions = descriptions

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """Cosines (episodes, queries, way)."""
        means = self._descriptions[torch.from_numpy(support)].mean(dim=2)
        return cosine_similarity(means, self._descriptions[torch.from_numpy(query)])


class CosineScorer(MeanScorer):
    """Nearest class mean by cosine on the spatial means of the three feature maps: what the encoder gives.

    Channels are standardised where the checkpoint knows their mean and deviation in training.
    """

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """features: of every image, from `encode_images`."""
        network = classifier.network

        def describe(batch: Tensor) -> Tensor:
            maps = network.unpack(batch.to(classifier.device)).maps
            pooled: Tensor = maps.mean(dim=(-2, -1)) if network.pooled is None else network.pooled(maps)
            return pooled.flatten(1).cpu()

        described = torch.cat([describe(batch) for batch in torch.split(features, ENCODE_BATCH)])
        super().__init__(described, classifier.checkpoint.sha256)


class GeometryScorer(MeanScorer):
    """Nearest class mean by cosine on the blendshape coefficients: the `geometry` part alone."""

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """classifier: with geometry. features: of every image, from `encode_images`."""
        network = classifier.network
        described = [
            network.describe(network.unpack(batch.to(classifier.device)))["geometry"].cpu()
            for batch in torch.split(features, ENCODE_BATCH)
        ]
        super().__init__(torch.cat(described), classifier.checkpoint.sha256)


class LandmarkScorer:
    """Nearest class mean of aligned, whitened landmark components: what the landmarks alone give."""

    weights_sha256: str | None = None

    def __init__(self, images: PreparedImages) -> None:
        points = images.landmarks()[:, :, :2]
        components = LandmarkComponents.fit(points, count=min(LANDMARK_COMPONENTS, len(points) - 1))
        self._components = torch.from_numpy(components.of(points))

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """Negative distances (episodes, queries, way)."""
        means = self._components[torch.from_numpy(support)].mean(dim=2)
        return -torch.cdist(self._components[torch.from_numpy(query)], means)


def encode_images(
    classifier: Classifier,
    images: PreparedImages,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Tensor:
    """Features (images, numbers) float16, as a session would store them, on the CPU.

    The patches are those of the layout that the checkpoint needs.
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
    """Halves of all images; the convolved maps, which take most memory, are kept in float16."""
    return Half(
        convolved=torch.cat([half.convolved.half() for half in halves]),
        direction=torch.cat([half.direction for half in halves]),
    )


def _whole(half: Half) -> Half:
    return Half(convolved=half.convolved.float(), direction=half.direction)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: tiny operations wait for a second one longer than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _classes_of(support: Indices) -> Indices:
    """Class number of each example of a support set (way, shot)."""
    way, shot = support.shape
    return np.arange(way).repeat(shot)
