"""Networks for serving, with batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.networks.csrn import CSRN
from model.networks.relation import RELATION_CHANNELS, Half, RelationModule

PAIRS_AT_ONCE = 2048
"""More pairs do not fit in the CPU's cache"""


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """Copy a network in eval mode, with every batch norm after a convolution folded into it."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for layers in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, following) in enumerate(zip(layers, [*layers][1:], strict=False)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(layer, following)
                layers[index + 1] = nn.Identity()
    return folded


class FoldedRelation:
    """A relation module for many pairs; equals `RelationModule` to rounding.

    A half is stored as (4, positions, 64): the four members of each 2x2 pooling window, the windows row
    by row, and the channels. It includes the first convolution's batch norm, so a pair costs an addition, a
    maximum and a product with the second convolution's weights.
    """

    def __init__(self, network: CSRN, *, dtype: torch.dtype) -> None:
        self._network, self._padding = network, network.relation.padding
        folded = fold_batch_norms(network.relation)
        assert isinstance(folded, RelationModule)
        first, second = folded.layer1[0], folded.layer2[0]
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        assert first.bias is not None
        assert second.bias is not None
        of_support, of_query = first.weight.to(dtype).chunk(2, dim=1)
        self._support = of_support.contiguous(memory_format=torch.channels_last)
        self._query = of_query.contiguous(memory_format=torch.channels_last)
        self._bias = first.bias.to(dtype)
        self._second = second.weight.to(dtype).permute(0, 2, 3, 1).flatten(1)
        self._second_bias = second.bias.to(dtype)
        self._second_pools = any(isinstance(layer, nn.MaxPool2d) for layer in folded.layer2)
        # The weights are ordered channel by channel; the activations here are ordered position by position.
        positions = folded.fc1.in_features // RELATION_CHANNELS
        columns = folded.fc1.weight.to(dtype).reshape(-1, RELATION_CHANNELS, positions)
        self._fc1, self._fc1_bias = columns.mT.flatten(1), folded.fc1.bias.to(dtype)
        self._fc2 = folded.fc2.to(dtype)

    def support_half(self, maps: Tensor, part: int | slice = slice(None)) -> Half:
        """Halves of the feature maps (..., 3 parts, C, H, W) of examples, or of one part (..., C, H, W)."""
        convolved = self._half(maps, self._support, self._bias)
        return Half(convolved=convolved, direction=self._network.directions(maps, part))

    def query_half(self, maps: Tensor) -> Half:
        """Halves (..., 3 parts) of the feature maps (..., 3 parts, C, H, W) of queries."""
        convolved = self._half(maps, self._query, None)
        return Half(convolved=convolved, direction=self._network.directions(maps))

    def score(self, halves: Sequence[tuple[Half, Half]]) -> Tensor:
        """Relation scores (pairs,) float32 of many pairs at once.

        Args: halves, pairs of support halves (supports, ...) and query halves (queries, ...). Within each,
            every query meets every support; scores are ordered query by query, then support by support.
        """
        chunks = _chunked(halves, PAIRS_AT_ONCE)
        return torch.cat([self._score(chunk) for chunk in chunks])

    def _score(self, chunk: Sequence[tuple[Half, Half]]) -> Tensor:
        first = chunk[0][0].convolved
        counts = [_count(support, query) for support, query in chunk]
        summed = first.new_empty(sum(counts), *first.shape[-3:])
        cosines = []
        for (support, query), rows in zip(chunk, torch.split(summed, counts), strict=True):
            shape = (len(query.convolved), *support.convolved.shape[:-3])
            torch.add(support.convolved, query.convolved[:, None], out=rows.view(*shape, *rows.shape[1:]))
            cosines.append(torch.einsum("s...c,q...c->qs...", support.direction, query.direction).flatten())
        return self._network.relation.score(self._later_layers(_pooled(summed)), torch.cat(cosines))

    def _later_layers(self, first: Tensor) -> Tensor:
        """Compute f(s, q) (pairs,) float32 from the first layer's output (pairs, positions, 64)."""
        side = math.isqrt(first.shape[1])
        patches = first.reshape(-1, side, side, RELATION_CHANNELS).unfold(1, 3, 1).unfold(2, 3, 1)
        # (pairs, rows, columns, 64, 3, 3); for a side of 3 this copies nothing
        patches = patches.permute(0, 1, 2, 4, 5, 3).flatten(3)
        second = nn.functional.linear(patches, self._second, self._second_bias)
        hidden = _pooled(_windows(second)) if self._second_pools else second.relu_()
        hidden = nn.functional.linear(hidden.flatten(1), self._fc1, self._fc1_bias).relu_()
        logits: Tensor = self._fc2(hidden).float().squeeze(1)
        return logits

    def _half(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        maps = features.flatten(0, -4).to(weight.dtype).contiguous(memory_format=torch.channels_last)
        half = nn.functional.conv2d(maps, weight, bias, padding=self._padding).permute(0, 2, 3, 1)
        return _windows(half).reshape(*features.shape[:-3], 4, -1, RELATION_CHANNELS)


def _windows(maps: Tensor) -> Tensor:
    """Cut maps (maps, H, W, C) into 2x2 windows (maps, 4, windows, C), without an odd last row and column."""
    height, width = (side // 2 for side in maps.shape[1:3])
    cut = maps[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2, maps.shape[3])
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, height * width, maps.shape[3])


def _pooled(windows: Tensor) -> Tensor:
    """Maxima of windows (..., 4, positions, C) after ReLU: (..., positions, C)."""
    return windows.amax(dim=-3).relu_()


def _count(support: Half, query: Half) -> int:
    """Number of pairs of the supports and queries."""
    return len(query.direction) * math.prod(support.direction.shape[:-1])


def _chunked(halves: Sequence[tuple[Half, Half]], limit: int) -> Iterator[list[tuple[Half, Half]]]:
    """Group the halves into lists of up to about `limit` pairs, split between queries."""
    chunk: list[tuple[Half, Half]] = []
    room = limit
    for supports, queries in halves:
        by_query = _count(supports, queries[:1])
        while len(queries.direction):
            some = max(room // by_query, 0 if chunk else 1)
            if some:
                chunk.append((supports, queries[:some]))
                room -= by_query * len(queries[:some].direction)
                queries = queries[some:]
            if len(queries.direction):
                yield chunk
                chunk, room = [], limit
    if chunk:
        yield chunk
