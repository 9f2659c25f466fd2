"""Networks as they are served: batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.network import RelationModule

PAIRS_AT_ONCE = 2048
"""More would leave the CPU's cache"""


def fold_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in eval mode that computes the same with no batch norm that follows a convolution."""
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for layers in [module for module in folded.modules() if isinstance(module, nn.Sequential)]:
        for index, (layer, following) in enumerate(zip(layers, [*layers][1:], strict=False)):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                layers[index] = fuse_conv_bn_eval(layer, following)
                layers[index + 1] = nn.Identity()
    return folded


class FoldedRelation:
    """A relation module for many pairs: what `RelationModule` computes, to rounding.

    Halves have the channels last in memory. The first convolution's batch norm is in them, so a pair
    costs an addition, a maximum and the second convolution. Shapes as in RelationModule.
    """

    def __init__(self, relation: RelationModule, *, dtype: torch.dtype) -> None:
        folded = fold_batch_norms(relation)
        assert isinstance(folded, RelationModule)
        first = folded.layer1[0]
        assert isinstance(first, nn.Conv2d)
        half = first.in_channels // 2
        self._dtype = dtype
        self._support = _channels_last(first.weight[:, :half], dtype)
        self._query = _channels_last(first.weight[:, half:], dtype)
        assert first.bias is not None
        self._bias = first.bias.to(dtype)
        self._rest = nn.Sequential(*folded.layer1[1:], *folded.layer2).to(
            dtype, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self._fc1, self._fc2 = folded.fc1.to(dtype), folded.fc2.to(dtype)

    def support_half(self, support: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the support's share of the first convolution."""
        return self._half(support, self._support, self._bias)

    def query_half(self, query: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) to the query's share of the first convolution."""
        return self._half(query, self._query, None)

    def score(self, halves: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Relation scores (pairs,) float32 of many pairs at once.

        Args: halves, supports (supports, ..., 64, H - 2, W - 2) and queries (queries, ..., 64, H - 2, W - 2)
            each: every query with every support. The scores are in that order: query by query, support
            by support.
        """
        chunks = _chunked(halves, PAIRS_AT_ONCE)
        return torch.cat([self._score(chunk) for chunk in chunks])

    def _score(self, chunk: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        counts = [_count(supports, queries) for supports, queries in chunk]
        summed = torch.empty(
            (sum(counts), *chunk[0][0].shape[-3:]),
            dtype=self._dtype,
            device=chunk[0][0].device,
            memory_format=torch.channels_last,
        )
        for (supports, queries), rows in zip(chunk, torch.split(summed, counts), strict=True):
            shape = (len(queries), *supports.shape[:-3])
            torch.add(supports, queries[:, None], out=rows.view(*shape, *rows.shape[1:]))
        hidden = torch.relu(self._fc1(self._rest(summed).flatten(1)))
        return torch.sigmoid(self._fc2(hidden).float()).squeeze(1)

    def _half(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        half = nn.functional.conv2d(_channels_last(features.flatten(0, -4), self._dtype), weight, bias)
        return _channels_last(half, self._dtype).reshape(*features.shape[:-3], *half.shape[1:])


def _count(supports: Tensor, queries: Tensor) -> int:
    return len(queries) * math.prod(supports.shape[:-3])


def _chunked(halves: Sequence[tuple[Tensor, Tensor]], limit: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The same in lists of up to about `limit` pairs, cut between queries."""
    chunk: list[tuple[Tensor, Tensor]] = []
    room = limit
    for supports, queries in halves:
        by_query = _count(supports, queries[:1])
        while len(queries):
            some = max(room // by_query, 0 if chunk else 1)
            if some:
                chunk.append((supports, queries[:some]))
                room -= by_query * len(queries[:some])
                queries = queries[some:]
            if len(queries):
                yield chunk
                chunk, room = [], limit
    if chunk:
        yield chunk


def _channels_last(maps: Tensor, dtype: torch.dtype) -> Tensor:
    return maps.to(dtype).contiguous(memory_format=torch.channels_last)
