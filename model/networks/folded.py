"""Networks for serving, with batch norms folded into the convolutions before them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.networks.csrn import CSRN, FaceFeatures, spatial_means
from model.networks.relation import RELATION_CHANNELS, Half, RelationModule

PAIRS_AT_ONCE = 2048
"""Pairs that a CPU scores at once; more do not fit in its cache"""
GPU_BYTES_AT_ONCE = 2**28
"""Bytes of the sums of the pairs that a GPU scores at once; all temporary values take 2 to 3 times as much"""


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
        return Half(convolved=convolved, direction=self._network.directions(spatial_means(maps), part))

    def query_half(self, faces: FaceFeatures) -> Half:
        """Halves (..., 3 parts) of queries (...)."""
        convolved = self._half(faces.maps, self._query, None)
        return Half(convolved=convolved, direction=self._network.directions(faces.means))

    def score(self, supports: Sequence[Half], queries: Half, query_half_of_pair: Tensor) -> Tensor:
        """Relation scores (pairs,) float32, query by query, then in the order of the query's support halves.

        The number of GPU kernels depends on the number of pairs, not on the number of support sets.

        Args:
            supports: one entry for each query: the support halves (n,) that it is scored with.
            queries: (halves,), several for each query.
            query_half_of_pair: (pairs,) int64, index of the query half of each pair.
        """
        if queries.convolved.device.type == "cpu":
            most = PAIRS_AT_ONCE
        else:
            most = max(GPU_BYTES_AT_ONCE // queries.convolved[0].nbytes, 1)
        chunks = _chunked([len(support.direction) for support in supports], most)
        return torch.cat(
            [self._score(supports[chosen], queries, query_half_of_pair[pairs]) for chosen, pairs in chunks]
        )

    def _score(self, supports: Sequence[Half], queries: Half, query_half_of_pair: Tensor) -> Tensor:
        sums = queries.convolved.index_select(0, query_half_of_pair)
        counts = [len(support.direction) for support in supports]
        # One call for all support sets; on a GPU, one kernel adds many tensors.
        torch._foreach_add_(torch.split(sums, counts), [support.convolved for support in supports])
        directions = torch.cat([support.direction for support in supports])
        cosines = torch.linalg.vecdot(directions, queries.direction.index_select(0, query_half_of_pair))
        return self._network.relation.score(self._later_layers(_pooled(sums)), cosines)

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


class FoldedDescriptions:
    """`CSRN.describe` as one vector for each face; equal to rounding.

    One product computes the whitened means and the logits of the votes from the spatial means.
    """

    def __init__(self, network: CSRN) -> None:
        self._network = network
        blank = network.unpack(
            torch.zeros(1, network.numbers_per_face, device=next(network.parameters()).device)
        )
        self.lengths = [found.shape[1] for found in network.describe(blank).values()]
        """Numbers of each part"""
        weights, biases = [], []
        if network.has_cosine:
            assert network.pooled is not None
            weights.append(network.pooled.whitening / network.pooled.deviation.flatten()[:, None])
            biases.append(-network.pooled.mean.flatten() @ weights[0])
        if network.votes is not None:
            weight, bias = network.votes.joined()
            weights.append(weight.T)
            biases.append(bias)
        self._weight = torch.cat(weights, dim=1).contiguous() if weights else None
        self._bias = torch.cat(biases) if biases else None

    def __call__(self, faces: FaceFeatures) -> Tensor:
        """Descriptions (faces, sum of `lengths`), one part after the other."""
        network, found = self._network, []
        if self._weight is not None:
            assert self._bias is not None
            product = torch.addmm(self._bias, faces.means.flatten(1), self._weight)
            if network.votes is not None:
                logits = product[:, -sum(network.votes.counts) :]
                logits.copy_(network.votes.roots(logits))
            found.append(product)
        if network.geometry is not None and faces.blendshapes is not None:
            found.append(network.geometry.standardise(faces.blendshapes))
        return torch.cat(found, dim=1)


def _windows(maps: Tensor) -> Tensor:
    """Cut maps (maps, H, W, C) into 2x2 windows (maps, 4, windows, C), without an odd last row and column."""
    height, width = (side // 2 for side in maps.shape[1:3])
    cut = maps[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2, maps.shape[3])
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, 4, height * width, maps.shape[3])


def _pooled(windows: Tensor) -> Tensor:
    """Maxima of windows (..., 4, positions, C) after ReLU: (..., positions, C)."""
    return windows.amax(dim=-3).relu_()


def _chunked(counts: Sequence[int], most: int) -> Iterator[tuple[slice, slice]]:
    """Group queries into chunks of at most `most` pairs, or of one query with more.

    Args: counts, pairs of each query.
    Returns: for each chunk its queries and its pairs.
    """
    first = start = end = 0
    for query, count in enumerate(counts):
        if end > start and end + count - start > most:
            yield slice(first, query), slice(start, end)
            first, start = query, end
        end += count
    yield slice(first, len(counts)), slice(start, end)
