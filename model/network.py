"""The Channel Selective Relation Network (CSRN): relation module, channel selection, class parts.

CSRN extends the relation network of Sung et al., "Learning to Compare", CVPR 2018, by three patches
of a face and by prototypes that are selected channel by channel. Parameter names are those of the
code that its authors published in 2023, so that their checkpoints load unchanged.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from model.encoders import ENCODERS, FeatureShape, conv_block

PART_COUNT = 3
"""Face, eyes, lips"""
RELATION_CHANNELS = 64


class RelationModule(nn.Module):
    """Relation score in (0, 1) of a support feature map with a query feature map.

    Its first convolution sees both maps side by side, and a convolution is linear:
    conv([s, q]) = conv_s(s) + conv_q(q). So each map is convolved once (`support_half`,
    `query_half`), and a pair costs an addition and the small rest (`score_halves`).
    Shapes below are for maps (C, H, W); halves are (64, H - 2, W - 2).
    """

    def __init__(self, feature_shape: FeatureShape) -> None:
        super().__init__()
        channels, height, _ = feature_shape
        pooled = (height - 2) // 2 - 2
        self.layer1 = conv_block(2 * channels, RELATION_CHANNELS, padding=0, pool=True)
        self.layer2 = conv_block(RELATION_CHANNELS, RELATION_CHANNELS, padding=0, pool=pooled > 1)
        side = pooled // 2 if pooled > 1 else pooled
        self.fc1 = nn.Linear(RELATION_CHANNELS * side * side, 8)
        self.fc2 = nn.Linear(8, 1)

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Two maps (pairs, C, H, W) to relation scores (pairs,), by the plain concatenation."""
        return self._score(self.layer1(torch.cat([support, query], dim=1)))

    def support_half(self, support: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the support's share of the first convolution."""
        return self._half(support, slice(None, support.shape[-3]), bias=True)

    def query_half(self, query: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the query's share of the first convolution."""
        return self._half(query, slice(query.shape[-3], None), bias=False)

    def score_halves(self, support_half: Tensor, query_half: Tensor) -> Tensor:
        """Halves that broadcast to (..., 64, H - 2, W - 2) to relation scores (...)."""
        summed = support_half + query_half
        lead = summed.shape[:-3]
        return self._score(self.layer1[1:](summed.flatten(0, -4))).reshape(lead)

    def _half(self, features: Tensor, channels: slice, *, bias: bool) -> Tensor:
        convolution = self.layer1[0]
        assert isinstance(convolution, nn.Conv2d)
        half = nn.functional.conv2d(
            features.flatten(0, -4),
            convolution.weight[:, channels],
            convolution.bias if bias else None,
        )
        return half.reshape(*features.shape[:-3], *half.shape[1:])

    def _score(self, first: Tensor) -> Tensor:
        hidden = torch.relu(self.fc1(self.layer2(first).flatten(1)))
        scores: Tensor = torch.sigmoid(self.fc2(hidden)).squeeze(1)
        return scores


class CosineModule(nn.Module):
    """Cosine similarity of a class's mean with a query, as a score in (0, 1).

    The nearest-mean classifier of Snell et al., "Prototypical networks", NeurIPS 2017, with cosine.
    A face's descriptor is the spatial mean of its three feature maps, each channel standardised by
    its mean and deviation over the training images, then mapped linearly. The map begins as the
    identity and is taught by episodes. score = sigmoid(slope * (cosine - middle)).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_shape: FeatureShape) -> None:
        super().__init__()
        channels = feature_shape[0]
        self.register_buffer("mean", torch.zeros(PART_COUNT, channels))
        self.register_buffer("deviation", torch.ones(PART_COUNT, channels))
        self.map = nn.Linear(PART_COUNT * channels, PART_COUNT * channels, bias=False)
        nn.init.eye_(self.map.weight)
        self.slope = nn.Parameter(torch.tensor(5.0))
        self.middle = nn.Parameter(torch.tensor(0.5))

    def standardise(self, features: Tensor) -> Tensor:
        """Feature maps (..., 3 parts, C, H, W) to spatial means (..., 3 * C), standardised."""
        means = features.float().mean(dim=(-2, -1))
        return ((means - self.mean) / self.deviation).flatten(-2)

    def describe(self, features: Tensor) -> Tensor:
        """Feature maps (..., 3 parts, C, H, W) to descriptors (..., 3 * C)."""
        descriptors: Tensor = self.map(self.standardise(features))
        return descriptors

    def forward(self, class_means: Tensor, queries: Tensor) -> Tensor:
        """Scores (..., queries, way) in (0, 1).

        Args: class_means (..., way, D), the mean descriptors of classes; queries (..., queries, D).
        """
        return self.score(cosine_similarity(class_means, queries))

    def score(self, cosines: Tensor) -> Tensor:
        """Cosines of any shape to scores in (0, 1)."""
        return torch.sigmoid(self.slope * (cosines - self.middle))

    def map_change(self) -> Tensor:
        """Squared distance of the map from the identity."""
        identity = torch.eye(len(self.map.weight), device=self.map.weight.device)
        return (self.map.weight - identity).square().sum()


def cosine_similarity(class_means: Tensor, queries: Tensor) -> Tensor:
    """Cosines (..., queries, way) of vectors (..., way, D) with queries (..., queries, D)."""
    ways = nn.functional.normalize(class_means, dim=-1)
    return nn.functional.normalize(queries, dim=-1) @ ways.mT


class CSRN(nn.Module):
    """An encoder, a relation module shared by the patches, and for some checkpoints a cosine module."""

    def __init__(self, encoder: str = "conv4", *, cosine: bool = False) -> None:
        """encoder: a name in ENCODERS."""
        super().__init__()
        self.encoder = ENCODERS[encoder]()
        self.relation = RelationModule(self.encoder.feature_shape)
        self.cosine = CosineModule(self.encoder.feature_shape) if cosine else None

    def encode(self, patches: Tensor) -> Tensor:
        """Patches (..., 3, 64, 64) float in [0, 1] to feature maps (..., C, H, W)."""
        features: Tensor = self.encoder(patches.flatten(0, -4))
        return features.reshape(*patches.shape[:-3], *features.shape[1:])


TIE_TOLERANCE = 1e-6
"""Spatial means this close are equally near: what separates them is rounding, not content."""


def select_shots(support: Tensor) -> Tensor:
    """Channel selection: per class and channel, the shot whose spatial mean is nearest to the class mean.

    Of equally near shots the first is taken. With two shots both always are: their mean lies half-way.

    Args: support (..., shot, channels, height, width).
    Returns: (..., channels) int64.
    """
    means = support.float().mean(dim=(-2, -1))
    distances = (means - means.mean(dim=-2, keepdim=True)).abs()
    nearest = distances <= distances.amin(dim=-2, keepdim=True) + TIE_TOLERANCE
    return nearest.int().argmax(dim=-2)


def gather_channels(support: Tensor, shots: Tensor) -> Tensor:
    """Put together the prototype of each class: channel c from shot shots[..., c].

    Args: support (..., shot, channels, height, width); shots (..., channels) int64.
    Returns: (..., channels, height, width).
    """
    index = shots[..., None, :, None, None]
    index = index.expand(*support.shape[:-4], 1, *support.shape[-3:])
    return support.gather(-4, index).squeeze(-4)


def select_prototypes(support: Tensor) -> Tensor:
    """Selected prototypes of the face maps of each class: (..., shot, C, H, W) to (..., C, H, W)."""
    return gather_channels(support, select_shots(support))


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeScores:
    """Relation scores of episodes of equal shots; `...` are any leading dimensions."""

    pairs: Tensor
    """(..., queries, way, shot, 3 parts) in (0, 1)"""
    prototypes: Tensor
    """(..., queries, way) in (0, 1): the selected prototype of each class with each query's face"""
    cosines: Tensor | None
    """(..., queries, way) in (0, 1): the class means with each query; None without a cosine module"""

    def class_parts(self) -> Tensor:
        """(..., queries, way, parts): face, eyes and lips averaged over shots, prototype, cosine if any."""
        others = [self.prototypes] if self.cosines is None else [self.prototypes, self.cosines]
        return torch.cat([self.pairs.mean(dim=-2), torch.stack(others, dim=-1)], dim=-1)


def score_episodes(network: CSRN, support: Tensor, query: Tensor) -> EpisodeScores:
    """Score every query against every support and every class's selected prototype.

    The published script pairs the prototype of class j with query j; what the paper means, and what
    is done here, is the prototype of class i against query j.

    Args:
        support: (..., way, shot, 3 parts, C, H, W) feature maps, parts in the order face, eyes, lips.
        query: (..., queries, 3 parts, C, H, W) feature maps.
    """
    relation, cosine = network.relation, network.cosine
    return score_halves_of_episodes(
        network,
        support_halves=relation.support_half(support),
        prototype_halves=relation.support_half(select_prototypes(support[..., 0, :, :, :])),
        query_halves=relation.query_half(query),
        class_descriptors=None if cosine is None else cosine.describe(support).mean(dim=-2),
        query_descriptors=None if cosine is None else cosine.describe(query),
    )


def score_halves_of_episodes(
    network: CSRN,
    *,
    support_halves: Tensor,
    prototype_halves: Tensor,
    query_halves: Tensor,
    class_descriptors: Tensor | None,
    query_descriptors: Tensor | None,
) -> EpisodeScores:
    """The part of `score_episodes` that costs by the pair, where the maps were convolved before.

    Args:
        support_halves: (..., way, shot, 3 parts, 64, H - 2, W - 2).
        prototype_halves: (..., way, 64, H - 2, W - 2), of the face.
        query_halves: (..., queries, 3 parts, 64, H - 2, W - 2).
        class_descriptors, query_descriptors: (..., way, D) and (..., queries, D) for a cosine module.
    """
    relation, cosine = network.relation, network.cosine
    pairs = relation.score_halves(
        support_halves[..., None, :, :, :, :, :, :], query_halves[..., None, None, :, :, :, :]
    )
    prototypes = relation.score_halves(
        prototype_halves[..., None, :, :, :, :], query_halves[..., None, 0, :, :, :]
    )
    cosines = None
    if cosine is not None:
        cosines = cosine(class_descriptors, query_descriptors)
    return EpisodeScores(pairs=pairs, prototypes=prototypes, cosines=cosines)
