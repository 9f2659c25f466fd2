"""Ways to classify the queries of episodes: CSRN as it is served, and the baselines beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.classifier import Classifier
from model.network import cosine_similarity, score_halves_of_episodes, select_prototypes
from model.training.geometry import LandmarkComponents
from model.training.prepared import PreparedImages

ENCODE_BATCH = 128
PAIRS_AT_ONCE = 4096
"""Episodes are scored together up to about so many pairs: more would leave the CPU's cache."""
LANDMARK_COMPONENTS = 20

Indices = npt.NDArray[np.int64]


class EpisodeScorer(Protocol):
    """Scores the queries of episodes over a fixed set of images."""

    weights_sha256: str | None
    """SHA-256 of the weights file, None without one"""

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        """(episodes, queries, way) of image indices (episodes, way, shot) and (episodes, queries)."""


class RelationScorer:
    """CSRN's class scores, all parts on, equal to those that the service gives."""

    @torch.inference_mode()
    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """features: of every image, from `encode_images`."""
        self.weights_sha256: str | None = classifier.checkpoint.sha256
        self._classifier, self._features = classifier, features
        relation, cosine = classifier.network.relation, classifier.network.cosine
        batches = torch.split(features, ENCODE_BATCH)

        def halves(half: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.cat([half(batch.to(classifier.device, torch.float32)).half() for batch in batches])

        self._support_halves = halves(relation.support_half)
        self._query_halves = halves(relation.query_half)
        self._descriptors = None
        if cosine is not None:
            self._descriptors = torch.cat([cosine.describe(batch.to(classifier.device)) for batch in batches])

    @torch.inference_mode()
    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        pairs = query.shape[1] * (support[0].size * 3 + support.shape[1])
        together = max(1, PAIRS_AT_ONCE // pairs)
        chunks = range(0, len(support), together)
        return torch.cat(
            [
                self._score(support[start : start + together], query[start : start + together])
                for start in chunks
            ]
        )

    def _score(self, support: Indices, query: Indices) -> Tensor:
        network, descriptors = self._classifier.network, self._descriptors
        chosen, asked = torch.from_numpy(support), torch.from_numpy(query)
        faces = self._features[chosen, 0].to(self._classifier.device, torch.float32)
        scores = score_halves_of_episodes(
            network,
            support_halves=self._support_halves[chosen].float(),
            prototype_halves=network.relation.support_half(select_prototypes(faces)),
            query_halves=self._query_halves[asked].float(),
            class_descriptors=None if descriptors is None else descriptors[chosen].mean(dim=2),
            query_descriptors=None if descriptors is None else descriptors[asked],
        )
        return self._classifier.class_scores(scores.class_parts()).cpu()


class CosineScorer:
    """Nearest class mean by cosine on the spatial means of the three feature maps: what the encoder gives.

    Channels are standardised as a cosine module has them, where the checkpoint has one; no relation
    module and no learnt map.
    """

    def __init__(self, classifier: Classifier, features: Tensor) -> None:
        """features: of every image, from `encode_images`."""
        self.weights_sha256: str | None = classifier.checkpoint.sha256
        cosine = classifier.network.cosine
        batches = torch.split(features, ENCODE_BATCH)
        if cosine is None:
            self._descriptors = torch.cat([b.float().mean(dim=(-2, -1)).flatten(1) for b in batches])
        else:
            self._descriptors = torch.cat(
                [cosine.standardise(b.to(classifier.device)).cpu() for b in batches]
            )

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        means = self._descriptors[torch.from_numpy(support)].mean(dim=2)
        return cosine_similarity(means, self._descriptors[torch.from_numpy(query)])


class LandmarkScorer:
    """Nearest class mean of aligned, whitened landmark components: what geometry alone gives."""

    weights_sha256: str | None = None

    def __init__(self, images: PreparedImages) -> None:
        points = images.landmarks()
        components = LandmarkComponents.fit(points, count=min(LANDMARK_COMPONENTS, len(points) - 1))
        self._components = torch.from_numpy(components.of(points))

    def class_scores(self, support: Indices, query: Indices) -> Tensor:
        means = self._components[torch.from_numpy(support)].mean(dim=2)
        return -torch.cdist(self._components[torch.from_numpy(query)], means)


def encode_images(
    classifier: Classifier,
    images: PreparedImages,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Tensor:
    """Feature maps (images, 3 parts, C, H, W) float16, as a session would store them, on the CPU."""
    encoded = []
    for start in range(0, len(images), ENCODE_BATCH):
        patches = images.patches(slice(start, start + ENCODE_BATCH))
        encoded.append(torch.from_numpy(classifier.encode(patches)))
        progress("encoding", start + len(patches), len(images))
    return torch.cat(encoded)
