"""Support sets: labelled examples, their form for scoring, and their pairs with queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.networks.relation import Half

Features = npt.NDArray[np.float16]
"""Features of one or more faces, (..., numbers) float16: the feature maps of face, eyes and lips one after
the other, then the blendshape coefficients if the checkpoint has geometry. Sessions store these."""
Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled face of a support set."""

    example_id: str
    label: str
    features: Features
    """(numbers,) float16, of the checkpoint's network"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportSet:
    """A support set ready for scoring, on the device. Classes may have unequal shots."""

    labels: tuple[str, ...]
    """One per class, in order of first appearance"""
    example_ids: tuple[str, ...]
    """One per example, class by class"""
    class_of_example: Indices
    """(examples,) ascending"""
    example_halves: Half
    """(examples, 3 parts) of the folded relation module"""
    prototype_halves: Half
    """(classes,) of the selected prototypes"""
    class_means: dict[str, Tensor]
    """(classes, D): mean descriptions of each part of `CSRN.describe`"""
    unknown_below: float
    """A face whose best class score is below this belongs to none of the classes"""

    @property
    def size_bytes(self) -> int:
        """Device memory that the support set takes."""
        halves = (self.example_halves, self.prototype_halves)
        return sum(half.convolved.nbytes + half.direction.nbytes for half in halves) + sum(
            means.nbytes for means in self.class_means.values()
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Indices for scoring the queries of several support sets at once.

    A pair is a query with an example of its support set, ordered query by query, then example by example.
    A row is a query with a class of its support set, ordered query by query, then class by class.
    """

    row_of_pair: Indices
    example_of_pair: Indices
    """Counted within the pair's support set"""
    shots_of_row: Indices
    class_of_row: Indices
    """Counted over all support sets"""
    query_of_row: Indices

    @classmethod
    def of(cls, requests: Sequence[tuple[SupportSet, Features]]) -> Pairs:
        """The pairs of support sets, each with its queries."""
        columns: list[list[Indices]] = [[], [], [], [], []]
        rows = classes = queries = 0
        for support, query in requests:
            way, count = len(support.labels), len(query)
            each = np.arange(count)
            found = (
                (rows + way * each[:, None] + support.class_of_example).ravel(),
                np.tile(np.arange(len(support.class_of_example)), count),
                np.tile(np.bincount(support.class_of_example), count),
                np.tile(classes + np.arange(way), count),
                np.repeat(queries + each, way),
            )
            for column, part in zip(columns, found, strict=True):
                column.append(part)
            rows, classes, queries = rows + way * count, classes + way, queries + count
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate(column) for name, column in zip(names, columns, strict=True)})

    @property
    def row_count(self) -> int:
        return len(self.shots_of_row)

    def class_means(self, of_pairs: Tensor) -> Tensor:
        """Means over the shots of each class: (pairs, N) to (rows, N)."""
        rows, shots = _on(of_pairs, self.row_of_pair), _on(of_pairs, self.shots_of_row)
        sums = of_pairs.new_zeros(self.row_count, of_pairs.shape[1]).index_add_(0, rows, of_pairs)
        return sums / shots[:, None]

    def best_example(self, of_pairs: Tensor) -> Indices:
        """The example of each row with the highest value (pairs,); the first of equal ones."""
        rows = _on(of_pairs, self.row_of_pair)
        best = of_pairs.new_zeros(self.row_count).scatter_reduce_(
            0, rows, of_pairs, "amax", include_self=False
        )
        numbers = torch.arange(len(of_pairs), device=of_pairs.device)
        candidates = torch.where(of_pairs >= best[rows], numbers, len(of_pairs))
        first = numbers.new_zeros(self.row_count)
        first = first.scatter_reduce_(0, rows, candidates, "amin", include_self=False)
        found: Indices = self.example_of_pair[first.cpu().numpy()]
        return found

    def cosines(self, of_classes: Tensor, of_queries: Tensor) -> Tensor:
        """Cosine of each row's class (classes, D) with its query (queries, D): (rows,)."""
        classes = nn.functional.normalize(of_classes, dim=-1)[_on(of_classes, self.class_of_row)]
        queries = nn.functional.normalize(of_queries, dim=-1)[_on(of_queries, self.query_of_row)]
        return (classes * queries).sum(dim=-1)


def _on(values: Tensor, indices: Indices) -> Tensor:
    """The indices as a tensor on the device of the values."""
    return torch.from_numpy(indices).to(values.device)
