"""Scores of whole episodes: every query against every example and every class's selected prototype."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from model.networks.csrn import CSRN, FACE, FaceFeatures
from model.networks.relation import Half, select_prototypes


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpisodeScores:
    """Scores of episodes of equal shots; `...` are any leading dimensions."""

    pairs: Tensor
    """(..., queries, way, shot, 3 parts) relation scores in (0, 1)"""
    prototypes: Tensor
    """(..., queries, way) in (0, 1): the selected prototype of each class with each query's face"""
    means: dict[str, Tensor]
    """(..., queries, way) in [0, 1] of each part of `CSRN.describe`"""

    def class_parts(self) -> Tensor:
        """(..., queries, way, parts): face, eyes and lips averaged over shots, prototype, then `means`."""
        others = torch.stack([self.prototypes, *self.means.values()], dim=-1)
        return torch.cat([self.pairs.mean(dim=-2), others], dim=-1)


def score_episodes(network: CSRN, support: FaceFeatures, query: FaceFeatures) -> EpisodeScores:
    """Score every query against every example and every class's selected prototype.

    The published script pairs the prototype of class j with query j alone. The paper means the prototype of
    every class against every query, as it is done here.

    Args: support (..., way, shot) faces; query (..., queries) faces.
    """
    return score_halves(
        network,
        support_halves=network.support_half(support.maps),
        prototype_halves=network.support_half(select_prototypes(support.maps[..., FACE, :, :, :]), FACE),
        query_halves=network.query_half(query.maps),
        class_means={name: found.mean(dim=-2) for name, found in network.describe(support).items()},
        query_descriptions=network.describe(query),
    )


def score_halves(
    network: CSRN,
    *,
    support_halves: Half,
    prototype_halves: Half,
    query_halves: Half,
    class_means: dict[str, Tensor],
    query_descriptions: dict[str, Tensor],
) -> EpisodeScores:
    """Score episodes whose feature maps are convolved already.

    Args:
        support_halves, prototype_halves, query_halves: leading dimensions (..., way, shot, 3 parts),
            (..., way) and (..., queries, 3 parts).
        class_means, query_descriptions: (..., way, D) and (..., queries, D) of each part of `CSRN.describe`.
    """
    by_class = _insert(query_halves, at=1)
    faces = Half(
        convolved=query_halves.convolved[..., FACE, :, :, :], direction=query_halves.direction[..., FACE, :]
    )
    return EpisodeScores(
        pairs=network.relation.relate(_insert(support_halves, at=3), _insert(by_class, at=1)),
        prototypes=network.relation.relate(_insert(prototype_halves, at=1), _insert(faces, at=0)),
        means={
            name: score_cosines(cosine_similarity(class_means[name], query_descriptions[name]))
            for name in class_means
        },
    )


def cosine_similarity(class_means: Tensor, queries: Tensor) -> Tensor:
    """Cosine similarity (..., queries, way) of queries (..., queries, D) and class vectors (..., way, D)."""
    ways = nn.functional.normalize(class_means, dim=-1)
    return nn.functional.normalize(queries, dim=-1) @ ways.mT


def score_cosines(cosines: Tensor) -> Tensor:
    """Map cosines in [-1, 1] to scores in [0, 1]."""
    return (1 + cosines) / 2


def _insert(half: Half, *, at: int) -> Half:
    """Insert a dimension of size 1 before the last `at` leading dimensions."""
    return Half(convolved=half.convolved.unsqueeze(-4 - at), direction=half.direction.unsqueeze(-2 - at))
