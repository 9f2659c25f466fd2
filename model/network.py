"""The Channel Selective Relation Network (CSRN): encoder, relation module, channel selection.

CSRN extends the relation network of Sung et al., "Learning to Compare", CVPR 2018, by three patches
of a face and by prototypes that are selected channel by channel. Layer sizes and parameter names are
those of the code that its authors published in 2023, so that their checkpoints load unchanged.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

FEATURE_SHAPE = (64, 14, 14)
"""Channels, height and width of the feature map of one 64x64 patch."""


class Conv4Encoder(nn.Module):
    """Four blocks of 3x3 convolution, batch norm and ReLU; the first two unpadded and max-pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _conv_block(3, 64, padding=0, pool=True)
        self.layer2 = _conv_block(64, 64, padding=0, pool=True)
        self.layer3 = _conv_block(64, 64, padding=1, pool=False)
        self.layer4 = _conv_block(64, 64, padding=1, pool=False)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches (..., 3, 64, 64) float in [0, 1] to feature maps (..., 64, 14, 14)."""
        lead = patches.shape[:-3]
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(patches.flatten(0, -4)))))
        return features.reshape(*lead, *features.shape[1:])


class RelationModule(nn.Module):
    """Relation score in (0, 1) of a support feature map with a query feature map.

    Its first convolution sees both maps side by side, and a convolution is linear:
    conv([s, q]) = conv_s(s) + conv_q(q). So each map is convolved once (`support_half`,
    `query_half`), and a pair costs an addition and the small rest (`score_halves`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = _conv_block(128, 64, padding=0, pool=True)
        self.layer2 = _conv_block(64, 64, padding=0, pool=True)
        self.fc1 = nn.Linear(256, 8)
        self.fc2 = nn.Linear(8, 1)

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Two maps (pairs, 64, 14, 14) to relation scores (pairs,), by the plain concatenation."""
        return self._score(self.layer1(torch.cat([support, query], dim=1)))

    def support_half(self, support: Tensor) -> Tensor:
        """Feature maps (..., 64, 14, 14) to the support's share of the first layer (..., 64, 12, 12)."""
        return self._half(support, slice(None, 64), bias=True)

    def query_half(self, query: Tensor) -> Tensor:
        """Feature maps (..., 64, 14, 14) to the query's share of the first layer (..., 64, 12, 12)."""
        return self._half(query, slice(64, None), bias=False)

    def score_halves(self, support_half: Tensor, query_half: Tensor) -> Tensor:
        """Halves that broadcast to (..., 64, 12, 12) to relation scores (...)."""
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


class CSRN(nn.Module):
    """Encoder and relation module, one of each, shared by the face, eye and lip patches."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Conv4Encoder()
        self.relation = RelationModule()


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
    """Relation scores of one episode of equal shots."""

    pairs: Tensor
    """(queries, way, shot, 3 parts) in (0, 1)"""
    prototypes: Tensor
    """(queries, way) in (0, 1): the selected prototype of each class with each query's face"""


def score_episode(relation: RelationModule, support: Tensor, query: Tensor) -> EpisodeScores:
    """Score every query against every support and every class's selected prototype.

    The published script pairs the prototype of class j with query j; what the paper means, and what
    is done here, is the prototype of class i against query j.

    Args:
        support: (way, shot, 3 parts, 64, 14, 14) feature maps, parts in the order face, eyes, lips.
        query: (queries, 3 parts, 64, 14, 14) feature maps.
    """
    query_half = relation.query_half(query)
    pairs = relation.score_halves(relation.support_half(support), query_half[:, None, None])
    prototypes = select_prototypes(support[:, :, 0])
    prototype_scores = relation.score_halves(relation.support_half(prototypes), query_half[:, None, 0])
    return EpisodeScores(pairs=pairs, prototypes=prototype_scores)


def _conv_block(channels_in: int, channels_out: int, *, padding: int, pool: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=padding),
        nn.BatchNorm2d(channels_out),
    ]
    if pool:
        # The maximum of rectified values is the rectified maximum: this order has a quarter to rectify.
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
