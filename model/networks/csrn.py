"""The Channel Selective Relation Network (CSRN) as a whole.

CSRN extends the relation network of Sung et al., "Learning to Compare", CVPR 2018, by three patches
of a face and by prototypes that are selected channel by channel.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.networks.encoders import ENCODERS, FeatureShape
from model.networks.geometry import BlendshapeNetwork
from model.networks.relation import Half, RelationModule
from model.vision.blendshapes import BLENDSHAPE_COUNT
from model.vision.patches import PART_COUNT

FACE = 0
"""Number of the face among the parts"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FaceFeatures:
    """What the encoder and the blendshape network say about faces; `...` are any leading dimensions."""

    maps: Tensor
    """Feature maps (..., 3 parts, C, H, W)"""
    blendshapes: Tensor | None
    """Coefficients (..., 52); None without geometry"""

    def __getitem__(self, chosen: Any) -> FaceFeatures:
        blendshapes = None if self.blendshapes is None else self.blendshapes[chosen]
        return FaceFeatures(maps=self.maps[chosen], blendshapes=blendshapes)

    @functools.cached_property
    def means(self) -> Tensor:
        """Spatial means (..., 3 parts, C) float32 of the maps."""
        return spatial_means(self.maps)

    def float(self) -> FaceFeatures:
        """The same in float32."""
        blendshapes = None if self.blendshapes is None else self.blendshapes.float()
        return FaceFeatures(maps=self.maps.float(), blendshapes=blendshapes)


def spatial_means(maps: Tensor) -> Tensor:
    """Means (..., C) float32 over the positions of feature maps (..., C, H, W)."""
    return maps.float().mean(dim=(-2, -1))


class PooledMaps(nn.Module):
    """Spatial means of feature maps, each channel standardised by its mean and deviation in training.

    The `cosine` part compares them whitened: a direction counts less where faces of one class differ much
    along it (Hatch, Kajarekar and Stolcke, "Within-class covariance normalization for SVM-based speaker
    recognition", Interspeech 2006).
    """

    mean: Tensor
    deviation: Tensor
    whitening: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(PART_COUNT, channels))
        self.register_buffer("deviation", torch.ones(PART_COUNT, channels))
        self.register_buffer("whitening", torch.eye(PART_COUNT * channels))

    def forward(self, means: Tensor, part: int | slice = slice(None)) -> Tensor:
        """Standardised means of spatial means (..., 3 parts, C), or (..., C) of one part."""
        return (means - self.mean[part]) / self.deviation[part]

    def whitened(self, means: Tensor) -> Tensor:
        """Whitened means (..., 3 * C) of spatial means (..., 3 parts, C)."""
        whitened: Tensor = self(means).flatten(-2) @ self.whitening
        return whitened


class VoteHeads(nn.Module):
    """Predicts which shares of annotators would vote for each class, from the three patches together.

    A face is described by the square roots of its shares. The cosine of two such descriptions is the
    Bhattacharyya coefficient of the two distributions: near 1 where annotators would vote alike.
    """

    def __init__(self, channels: int, counts: Sequence[int]) -> None:
        """counts: number of classes of each kind of annotation, such as labels and votes."""
        super().__init__()
        self.counts = tuple(counts)
        self.parts = nn.ModuleList(nn.Linear(channels, sum(self.counts)) for _ in range(PART_COUNT))

    def forward(self, means: Tensor) -> Tensor:
        """Square roots of shares (..., sum of the counts) from spatial means (..., 3 parts, C)."""
        return self.roots(nn.functional.linear(means.flatten(-2), *self.joined()))

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weight (sum of the counts, 3 * C) and bias of one layer that equals the sum of the three heads."""
        heads = [cast(nn.Linear, head) for head in self.parts]
        weight = torch.cat([head.weight for head in heads], dim=1)
        return weight, torch.stack([head.bias for head in heads]).sum(dim=0)

    def roots(self, logits: Tensor) -> Tensor:
        """Square roots of shares from logits, both (..., sum of the counts)."""
        kinds = torch.split(logits, list(self.counts), dim=-1)
        return torch.cat([kind.softmax(dim=-1).sqrt() for kind in kinds], dim=-1)


class CSRN(nn.Module):
    """An encoder and a relation module shared by the patches, and the parts that a checkpoint may add."""

    def __init__(
        self,
        encoder: str = "conv4",
        *,
        residual: bool = False,
        cosine: bool = False,
        votes: Sequence[int] = (),
        geometry: bool = False,
    ) -> None:
        """Build a network with fresh weights.

        Args:
            encoder: a name in ENCODERS.
            residual: whether the relation module starts from the cosine.
            cosine, geometry: whether to add these parts.
            votes: number of classes of each kind of annotation; empty for no votes part.
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
    def numbers_per_face(self) -> int:
        """Length of a face's features as one vector."""
        return PART_COUNT * math.prod(self.feature_shape) + BLENDSHAPE_COUNT * (self.geometry is not None)

    def encode(self, patches: Tensor) -> Tensor:
        """Feature maps (..., C, H, W) of patches (..., 3, size, size) float in [0, 1]."""
        features: Tensor = self.encoder(patches.flatten(0, -4))
        return features.reshape(*patches.shape[:-3], *features.shape[1:])

    def unpack(self, features: Tensor) -> FaceFeatures:
        """Split stored features (..., numbers) into feature maps and blendshapes."""
        features = features.float()
        maps, blendshapes = features, None
        if self.geometry is not None:
            maps, blendshapes = features[..., :-BLENDSHAPE_COUNT], features[..., -BLENDSHAPE_COUNT:]
        maps = maps.reshape(*features.shape[:-1], PART_COUNT, *self.feature_shape)
        return FaceFeatures(maps=maps, blendshapes=blendshapes)

    def describe(self, faces: FaceFeatures) -> dict[str, Tensor]:
        """Descriptions (..., D) of faces by name of the part that compares them with a class's mean."""
        described = {}
        if self.has_cosine:
            assert self.pooled is not None
            described["cosine"] = self.pooled.whitened(faces.means)
        if self.votes is not None:
            described["votes"] = self.votes(faces.means)
        if self.geometry is not None and faces.blendshapes is not None:
            described["geometry"] = self.geometry.standardise(faces.blendshapes)
        return described

    def support_half(self, maps: Tensor, part: int | slice = slice(None)) -> Half:
        """What the maps of examples contribute to relation scores: computed once, used for each pair.

        Args: maps (..., 3 parts, C, H, W), or (..., C, H, W) of one `part`.
        """
        directions = self.directions(spatial_means(maps), part)
        return Half(convolved=self.relation.support_half(maps), direction=directions)

    def query_half(self, maps: Tensor) -> Half:
        """Halves (..., 3 parts, ...) of the feature maps (..., 3 parts, C, H, W) of queries."""
        return Half(convolved=self.relation.query_half(maps), direction=self.directions(spatial_means(maps)))

    def directions(self, means: Tensor, part: int | slice = slice(None)) -> Tensor:
        """Directions of spatial means (..., 3 parts, C), or (..., C) of one part."""
        standardised = means if self.pooled is None else self.pooled(means, part)
        return nn.functional.normalize(standardised, dim=-1)
