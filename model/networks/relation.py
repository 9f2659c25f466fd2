"""The relation module, which scores pairs of feature maps, and channel selection, which builds prototypes.

Parameter names are those of the code that CSRN's authors published in 2023, so their checkpoints load
unchanged.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.encoders import FeatureShape, conv_block

RELATION_CHANNELS = 64
SMALLEST_UNPADDED = 8
"""From this side of a feature map on, the relation module's two convolutions need no padding"""
RESIDUAL_REACH = 1.0
"""A residual relation module moves the cosine's score by at most this many logits"""
TIE_TOLERANCE = 1e-6
"""Shots whose distances to the class mean differ by less are equally near: the difference is rounding"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Half:
    """What one feature map of a pair, support or query, contributes to the relation score."""

    convolved: Tensor
    """Its share of the relation module's first convolution"""
    direction: Tensor
    """(..., C) spatial mean of the map, standardised and scaled to length 1, for the cosine"""

    def __getitem__(self, chosen: Any) -> Half:
        return Half(convolved=self.convolved[chosen], direction=self.direction[chosen])

    def flatten(self) -> Half:
        """The same with one leading dimension."""
        return Half(convolved=self.convolved.flatten(0, -4), direction=self.direction.flatten(0, -2))


class RelationModule(nn.Module):
    """Relation score in (0, 1) of a support feature map with a query feature map.

    Its first convolution takes both maps side by side, and a convolution is linear:
    conv([s, q]) = conv_s(s) + conv_q(q). Each map is therefore convolved once (`support_half`, `query_half`),
    and a pair costs an addition and the remaining small layers.

    The published module computes score = sigmoid(f(s, q)). A residual one starts from the cosine of the two
    maps' spatial means: score = sigmoid(slope * (cosine - middle) + tanh(f(s, q))).
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
        """Compute f(s, q) (pairs,) of two maps (pairs, C, H, W) by plain concatenation."""
        return self._later_layers(self.layer1(torch.cat([support, query], dim=1)))

    def support_half(self, support: Tensor) -> Tensor:
        """The support's share of the first convolution, from feature maps (..., C, H, W)."""
        return self._half(support, slice(None, support.shape[-3]), bias=True)

    def query_half(self, query: Tensor) -> Tensor:
        """The query's share of the first convolution, from feature maps (..., C, H, W)."""
        return self._half(query, slice(query.shape[-3], None), bias=False)

    def relate(self, support: Half, query: Half) -> Tensor:
        """Relation scores (...) of halves whose leading dimensions broadcast to (...)."""
        summed = support.convolved + query.convolved
        logits = self._later_layers(self.layer1[1:](summed.flatten(0, -4))).reshape(summed.shape[:-3])
        return self.score(logits, (support.direction * query.direction).sum(dim=-1))

    def score(self, logits: Tensor, cosines: Tensor) -> Tensor:
        """Relation scores from f(s, q) and the cosines, all of one shape."""
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

    def _later_layers(self, first: Tensor) -> Tensor:
        hidden = torch.relu(self.fc1(self.layer2(first).flatten(1)))
        logits: Tensor = self.fc2(hidden).squeeze(1)
        return logits


def select_prototypes(support: Tensor) -> Tensor:
    """Selected prototypes of the face maps of each class: (..., shot, C, H, W) to (..., C, H, W)."""
    return gather_channels(support, select_shots(support))


def select_shots(support: Tensor) -> Tensor:
    """Channel selection: for each class and channel, the shot with the mean nearest to the class mean.

    If several are equally near, the first is selected. Of two shots this is always the first, because both
    are equally far from their mean.

    Args: support (..., shot, channels, height, width).
    Returns: (..., channels) int64.
    """
    means = support.float().mean(dim=(-2, -1))
    distances = (means - means.mean(dim=-2, keepdim=True)).abs()
    nearest = distances <= distances.amin(dim=-2, keepdim=True) + TIE_TOLERANCE
    return nearest.int().argmax(dim=-2)


def gather_channels(support: Tensor, shots: Tensor) -> Tensor:
    """Assemble the prototype of each class: channel c comes from shot shots[..., c].

    Args: support (..., shot, channels, height, width); shots (..., channels) int64.
    Returns: (..., channels, height, width).
    """
    index = shots[..., None, :, None, None]
    index = index.expand(*support.shape[:-4], 1, *support.shape[-3:])
    return support.gather(-4, index).squeeze(-4)
