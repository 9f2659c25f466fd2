"""The Channel Selective Relation Network (CSRN): relation module, channel selection, class parts.

CSRN extends the relation network of Sung et al., "Learning to Compare", CVPR 2018, by three patches
of a face and by prototypes that are selected channel by channel. Parameter names are those of the
code that its authors published in 2023, so that their checkpoints load unchanged.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.encoders import ENCODERS, FeatureShape, conv_block
from model.networks.geometry import BLENDSHAPE_COUNT, BlendshapeNetwork

PART_COUNT = 3
"""Face, eyes, lips"""
RELATION_CHANNELS = 64
SMALLEST_UNPADDED = 8
"""Side of a feature map from which the relation module's two convolutions need no padding"""


RESIDUAL_REACH = 1.0
"""How far, in logits, a residual relation module can move the cosine's score"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceFeatures:
    """What is known of faces after encoding; `...` are any leading dimensions."""

    maps: Tensor
    """Feature maps (..., 3 parts, C, H, W)"""
    blendshapes: Tensor | None
    """Coefficients (..., 52); None without geometry"""

    def __getitem__(self, chosen: Any) -> FaceFeatures:
        blendshapes = None if self.blendshapes is None else self.blendshapes[chosen]
        return FaceFeatures(maps=self.maps[chosen], blendshapes=blendshapes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half:
    """One side of pairs of feature maps: a support or a query."""

    convolved: Tensor
    """Its share of the relation module's first convolution"""
    direction: Tensor
    """(..., C) spatial mean of the map, standardised, of length 1; what the cosine compares"""

    def __getitem__(self, chosen: Any) -> Half:
        return Half(convolved=self.convolved[chosen], direction=self.direction[chosen])


class RelationModule(nn.Module):
    """Relation score in (0, 1) of a support feature map with a query feature map.

    Its first convolution sees both maps side by side, and a convolution is linear:
    conv([s, q]) = conv_s(s) + conv_q(q). So each map is convolved once (`support_half`, `query_half`), and
    a pair costs an addition and the small rest.

    The published module gives score = sigmoid(f(s, q)). A residual one starts from the cosine of the two
    maps' spatial means, and f can move that a little: sigmoid(slope * (cosine - middle) + tanh(f(s, q))).
    Shapes below are for maps (C, H, W).
    """

    def __init__(self, feature_shape: FeatureShape, *, residual: bool = False) -> None:
        super().__init__()
        channels, height, _ = feature_shape
        self.padding = 0 if height >= SMALLEST_UNPADDED else 1
        side = height - 2 + 2 * self.padding
        pooled = side // 2 - 2
        self.layer1 = conv_block(2 * channels, RELATION_CHANNELS, padding=self.padding, pool=True)
        self.layer2 = conv_block(RELATION_CHANNELS, RELATION_CHANNELS, padding=0, pool=pooled > 1)
        side = pooled // 2 if pooled > 1 else pooled
        self.fc1 = nn.Linear(RELATION_CHANNELS * side * side, 8)
        self.fc2 = nn.Linear(8, 1)
        self.residual = residual
        if residual:
            self.slope, self.middle = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.0))
            nn.init.zeros_(self.fc2.weight)
            nn.init.zeros_(self.fc2.bias)

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Two maps (pairs, C, H, W) to f(s, q) (pairs,), by the plain concatenation."""
        return self._rest(self.layer1(torch.cat([support, query], dim=1)))

    def support_half(self, support: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the support's share of the first convolution."""
        return self._half(support, slice(None, support.shape[-3]), bias=True)

    def query_half(self, query: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the query's share of the first convolution."""
        return self._half(query, slice(query.shape[-3], None), bias=False)

    def relate(self, support: Half, query: Half) -> Tensor:
        """Relation scores (...) of halves whose leading dimensions broadcast to (...)."""
        summed = support.convolved + query.convolved
        logits = self._rest(self.layer1[1:](summed.flatten(0, -4))).reshape(summed.shape[:-3])
        return self.score(logits, (support.direction * query.direction).sum(dim=-1))

    def score(self, logits: Tensor, cosines: Tensor) -> Tensor:
        """f(s, q) and cosines of any one shape to relation scores."""
        if self.residual:
            logits = self.slope * (cosines - self.middle) + RESIDUAL_REACH * torch.tanh(logits)
        return torch.sigmoid(logits)

    def _half(self, features: Tensor, channels: slice, *, bias: bool) -> Tensor:
        convolution = self.layer1[0]
        assert isinstance(convolution, nn.Conv2d)
        half = nn.functional.conv2d(
            features.flatten(0, -4),
            convolution.weight[:, channels],
            convolution.bias if bias else None,
            padding=self.padding,
        )
        return half.reshape(*features.shape[:-3], *half.shape[1:])

    def _rest(self, first: Tensor) -> Tensor:
        hidden = torch.relu(self.fc1(self.layer2(first).flatten(1)))
        logits: Tensor = self.fc2(hidden).squeeze(1)
        return logits


class PooledMaps(nn.Module):
    """Spatial means of feature maps, each channel standardised by its mean and deviation in training.

    The `cosine` part compares them whitened: in directions in which faces of one class differ much from each
    other, a difference counts less (Hatch, Kajarekar and Stolcke, "Within-class covariance normalization for
    SVM-based speaker recognition", Interspeech 2006).
    """

    mean: Tensor
    deviation: Tensor
    whitening: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PART_COUNT, channels))
        self.register_buffer("deviation", torch.ones(PART_COUNT, channels))
        self.register_buffer("whitening", torch.eye(PART_COUNT * channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (..., 3 parts, C, H, W) to standardised means (..., 3 parts, C)."""
        return (maps.float().mean(dim=(-2, -1)) - self.mean) / self.deviation

    def whitened(self, maps: Tensor) -> Tensor:
        """Feature maps (..., 3 parts, C, H, W) to whitened means (..., 3 * C)."""
        whitened: Tensor = self(maps).flatten(-2) @ self.whitening
        return whitened

    def of_face(self, maps: Tensor) -> Tensor:
        """Feature maps of faces (..., C, H, W) to standardised means (..., C)."""
        return (maps.float().mean(dim=(-2, -1)) - self.mean[0]) / self.deviation[0]


class VoteHeads(nn.Module):
    """Shares of the votes that annotators would give a face, predicted by each patch and added up.

    A face is described by the square roots of its shares. The cosine of two such descriptions is the
    Bhattacharyya coefficient of the two distributions: near 1 wherever annotators would vote alike, so
    this part decides between expressions that have a name and keeps out of the others.
    """

    def __init__(self, channels: int, counts: Sequence[int]) -> None:
        """counts: how many classes each kind of annotation has, such as labels and votes."""
        super().__init__()
        self.counts = tuple(counts)
        self.parts = nn.ModuleList(nn.Linear(channels, sum(self.counts)) for _ in range(PART_COUNT))

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps (..., 3 parts, C, H, W) to square roots of shares (..., sum of the counts)."""
        means = maps.float().mean(dim=(-2, -1)).unbind(dim=-2)
        logits = torch.stack([head(mean) for head, mean in zip(self.parts, means, strict=True)]).sum(dim=0)
        kinds = torch.split(logits, list(self.counts), dim=-1)
        return torch.cat([kind.softmax(dim=-1).sqrt() for kind in kinds], dim=-1)


class CSRN(nn.Module):
    """An encoder, a relation module shared by the patches, and what a checkpoint adds to the paper."""

    def __init__(
        self,
        encoder: str = "conv4",
        *,
        residual: bool = False,
        cosine: bool = False,
        votes: Sequence[int] = (),
        geometry: bool = False,
    ) -> None:
        """A network with fresh weights.

        Args:
            encoder: a name in ENCODERS.
            residual: whether the relation module starts from the cosine.
            cosine, geometry: whether to add these parts.
            votes: how many classes each kind of annotation has; the part is left out without any.
        """
        super().__init__()
        self.encoder = ENCODERS[encoder]()
        self.feature_shape: FeatureShape = self.encoder.feature_shape
        self.relation = RelationModule(self.feature_shape, residual=residual)
        self.pooled = PooledMaps(self.feature_shape[0]) if residual or cosine else None
        self.has_cosine = cosine
        self.votes = VoteHeads(self.feature_shape[0], votes) if votes else None
        self.geometry = BlendshapeNetwork() if geometry else None

    @property
    def mean_parts(self) -> tuple[str, ...]:
        """Parts that compare a query with the mean of a class's descriptions by their cosine."""
        present = {
            "cosine": self.has_cosine,
            "votes": self.votes is not None,
            "geometry": self.geometry is not None,
        }
        return tuple(name for name, is_present in present.items() if is_present)

    @property
    def numbers_per_face(self) -> int:
        """Length of a face's features as one vector."""
        return PART_COUNT * math.prod(self.feature_shape) + BLENDSHAPE_COUNT * (self.geometry is not None)

    def encode(self, patches: Tensor) -> Tensor:
        """Patches (..., 3, size, size) float in [0, 1] to feature maps (..., C, H, W)."""
        features: Tensor = self.encoder(patches.flatten(0, -4))
        return features.reshape(*patches.shape[:-3], *features.shape[1:])

    def unpack(self, features: Tensor) -> FaceFeatures:
        """Features as they are stored, (..., numbers): the maps one after the other, then blendshapes."""
        features = features.float()
        maps, blendshapes = features, None
        if self.geometry is not None:
            maps, blendshapes = features[..., :-BLENDSHAPE_COUNT], features[..., -BLENDSHAPE_COUNT:]
        return FaceFeatures(
            maps=maps.reshape(*features.shape[:-1], PART_COUNT, *self.feature_shape), blendshapes=blendshapes
        )

    def describe(self, faces: FaceFeatures) -> dict[str, Tensor]:
        """The descriptions (..., D) that each of `mean_parts` compares."""
        described = {}
        if self.has_cosine:
            assert self.pooled is not None
            described["cosine"] = self.pooled.whitened(faces.maps)
        if self.votes is not None:
            described["votes"] = self.votes(faces.maps)
        if self.geometry is not None and faces.blendshapes is not None:
            described["geometry"] = self.geometry.standardise(faces.blendshapes)
        return described

    def support_half(self, maps: Tensor) -> Half:
        """Halves (..., 3 parts, ...) of the feature maps (..., 3 parts, C, H, W) of examples."""
        return Half(convolved=self.relation.support_half(maps), direction=self.directions(maps))

    def prototype_half(self, maps: Tensor) -> Half:
        """Halves of the selected prototypes (..., C, H, W) of faces."""
        return Half(convolved=self.relation.support_half(maps), direction=self.face_directions(maps))

    def query_half(self, maps: Tensor) -> Half:
        """Halves (..., 3 parts, ...) of the feature maps (..., 3 parts, C, H, W) of queries."""
        return Half(convolved=self.relation.query_half(maps), direction=self.directions(maps))

    def directions(self, maps: Tensor) -> Tensor:
        """Directions (..., 3 parts, C) of maps (..., 3 parts, C, H, W)."""
        pooled = self.pooled(maps) if self.pooled is not None else maps.float().mean(dim=(-2, -1))
        return nn.functional.normalize(pooled, dim=-1)

    def face_directions(self, maps: Tensor) -> Tensor:
        """Directions (..., C) of the maps (..., C, H, W) of faces."""
        pooled = self.pooled.of_face(maps) if self.pooled is not None else maps.float().mean(dim=(-2, -1))
        return nn.functional.normalize(pooled, dim=-1)


def cosine_similarity(class_means: Tensor, queries: Tensor) -> Tensor:
    """Cosines (..., queries, way) of vectors (..., way, D) with queries (..., queries, D)."""
    ways = nn.functional.normalize(class_means, dim=-1)
    return nn.functional.normalize(queries, dim=-1) @ ways.mT


def score_cosines(cosines: Tensor) -> Tensor:
    """Cosines in [-1, 1] as scores in [0, 1]."""
    return (1 + cosines) / 2


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
    means: dict[str, Tensor]
    """(..., queries, way) in [0, 1] of each of the network's `mean_parts`"""

    def class_parts(self) -> Tensor:
        """(..., queries, way, parts): face, eyes and lips averaged over shots, prototype, `mean_parts`."""
        others = torch.stack([self.prototypes, *self.means.values()], dim=-1)
        return torch.cat([self.pairs.mean(dim=-2), others], dim=-1)


def score_episodes(network: CSRN, support: FaceFeatures, query: FaceFeatures) -> EpisodeScores:
    """Score every query against every support and every class's selected prototype.

    The published script pairs the prototype of class j with query j; what the paper means, and what
    is done here, is the prototype of class i against query j.

    Args: support (..., way, shot) faces; query (..., queries) faces.
    """
    return score_halves_of_episodes(
        network,
        support_halves=network.support_half(support.maps),
        prototype_halves=network.prototype_half(select_prototypes(support.maps[..., 0, :, :, :])),
        query_halves=network.query_half(query.maps),
        class_means={name: found.mean(dim=-2) for name, found in network.describe(support).items()},
        query_descriptions=network.describe(query),
    )


def score_halves_of_episodes(
    network: CSRN,
    *,
    support_halves: Half,
    prototype_halves: Half,
    query_halves: Half,
    class_means: dict[str, Tensor],
    query_descriptions: dict[str, Tensor],
) -> EpisodeScores:
    """The part of `score_episodes` that costs by the pair, where the maps were convolved before.

    Args:
        support_halves, prototype_halves, query_halves: leading dimensions (..., way, shot, 3 parts),
            (..., way) and (..., queries, 3 parts).
        class_means, query_descriptions: (..., way, D) and (..., queries, D) of each of `mean_parts`.
    """
    pairs = network.relation.relate(_insert(support_halves, at=3), _insert(_insert(query_halves, at=1), at=1))
    prototypes = network.relation.relate(
        _insert(prototype_halves, at=1), _insert(_face_of(query_halves), at=0)
    )
    return EpisodeScores(
        pairs=pairs,
        prototypes=prototypes,
        means={
            name: score_cosines(cosine_similarity(class_means[name], query_descriptions[name]))
            for name in class_means
        },
    )


def _insert(half: Half, *, at: int) -> Half:
    """A dimension of size 1, so that `at` of the leading dimensions follow it."""
    return Half(convolved=half.convolved.unsqueeze(-4 - at), direction=half.direction.unsqueeze(-2 - at))


def _face_of(half: Half) -> Half:
    return Half(convolved=half.convolved[..., 0, :, :, :], direction=half.direction[..., 0, :])
