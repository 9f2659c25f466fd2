"""Which pair belongs to which class, where queries of several support sets are scored in one go."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.support_set import Features, SupportSet

Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pairs:
    """Every query with every example of its support set: query by query, example by example.

    A row is a query with one class of its support set: query by query, class by class.
    """

    row_of_pair: Indices
    example_of_pair: Indices
    """Counted from the first of the pair's support set"""
    shots_of_row: Indices
    class_of_row: Indices
    """Counted through all support sets"""
    query_of_row: Indices

    @classmethod
    def of(cls, asked: Sequence[tuple[SupportSet, Features]]) -> Pairs:
        """The pairs of support sets, each with its queries."""
        columns: list[list[Indices]] = [[], [], [], [], []]
        rows = classes = queries = 0
        for support, query in asked:
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
        rows, shots = self._on(of_pairs, self.row_of_pair), self._on(of_pairs, self.shots_of_row)
        sums = of_pairs.new_zeros(self.row_count, of_pairs.shape[1]).index_add_(0, rows, of_pairs)
        return sums / shots[:, None]

    def best_example(self, of_pairs: Tensor) -> list[int]:
        """The example of each row whose value (pairs,) is highest; of equal ones the first."""
        rows = self._on(of_pairs, self.row_of_pair)
        best = of_pairs.new_zeros(self.row_count).scatter_reduce_(
            0, rows, of_pairs, "amax", include_self=False
        )
        numbers = torch.arange(len(of_pairs), device=of_pairs.device)
        candidates = torch.where(of_pairs >= best[rows], numbers, len(of_pairs))
        first = numbers.new_zeros(self.row_count)
        first = first.scatter_reduce_(0, rows, candidates, "amin", include_self=False)
        found: list[int] = self.example_of_pair[first.cpu().numpy()].tolist()
        return found

    def cosines(self, of_classes: Tensor, of_queries: Tensor) -> Tensor:
        """Cosine of each row's class (classes, D) with its query (queries, D): (rows,)."""
        classes = nn.functional.normalize(of_classes, dim=-1)[self._on(of_classes, self.class_of_row)]
        queries = nn.functional.normalize(of_queries, dim=-1)[self._on(of_queries, self.query_of_row)]
        return (classes * queries).sum(dim=-1)

    def _on(self, values: Tensor, indices: Indices) -> Tensor:
        return torch.from_numpy(indices).to(values.device)
