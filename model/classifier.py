"""Few-shot classification: patches to feature maps, support sets and class scores.

    score(class, query) = sum_p w_p * r_p / sum_p w_p

over the parts p = face, eyes, lips and prototype, where r_p is the mean relation score of the part
over the class's shots (of the prototype: its one score). With the paper's weights 1, 1, 1, 0.7 and
equal shots this orders classes exactly as the paper's sum over shots does; the mean also compares
classes of unequal shots, and stays in [0, 1]. A checkpoint may add a fifth part, cosine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.network import select_prototypes

Features = npt.NDArray[np.float16]
"""Feature maps of one or more faces, (..., 3 parts, C, H, W) float16: what a session stores."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One labelled face of a support set."""

    example_id: str
    label: str
    features: Features
    """(3 parts, C, H, W) float16, of the checkpoint's encoder"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupportSet:
    """A support set made ready for scoring, on the device. Classes may have unequal shots."""

    labels: tuple[str, ...]
    """One per class, in order of first appearance."""
    example_ids: tuple[str, ...]
    """One per example, classes one after the other."""
    class_of_example: Tensor
    """(examples,) int64, ascending"""
    example_halves: Tensor
    """(examples, 3 parts, 64, H - 2, W - 2): the relation module's support halves"""
    prototype_halves: Tensor
    """(classes, 64, H - 2, W - 2): those of the selected prototypes"""
    class_descriptors: Tensor | None
    """(classes, D): mean descriptors for the cosine part, None where the checkpoint has none"""

    @property
    def size_bytes(self) -> int:
        """What it takes of the device's memory, all but a few bytes."""
        tensors = (self.example_halves, self.prototype_halves, self.class_descriptors)
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How one class relates to one query."""

    label: str
    score: float
    """Weighted mean of the parts, in [0, 1]"""
    parts: dict[str, float]
    """face, eyes, lips, prototype, and what the checkpoint adds: mean relation scores in [0, 1]"""
    nearest_example_id: str
    """The example whose face, eyes and lips score highest with the query"""


class Classifier:
    """Encodes patches and scores queries with one checkpoint. Stateless between calls.

    Support sets are arguments, so one classifier serves any number of sessions.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.device = next(checkpoint.network.parameters()).device
        self.network = checkpoint.network
        self.network.encoder.to(memory_format=torch.channels_last)
        weights = checkpoint.config.part_weights.by_name()
        self.part_names = tuple(weights)
        self._part_weights = torch.tensor([*weights.values()]).to(self.device)

    @torch.inference_mode()
    def encode(self, patches: npt.NDArray[np.uint8]) -> Features:
        """Patches (faces, 3 parts, 64, 64, 3) uint8 to features (faces, 3 parts, C, H, W) float16."""
        # NHWC in memory seen as NCHW is already channels_last, the layout convolutions like best.
        pixels = torch.from_numpy(patches).to(self.device).permute(0, 1, 4, 2, 3)
        features = self.network.encode(pixels.float() / 255)
        encoded: Features = features.contiguous().half().cpu().numpy()
        return encoded

    @torch.inference_mode()
    def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """Make a support set of at least one example ready for scoring."""
        labels = tuple(dict.fromkeys(example.label for example in examples))
        grouped = sorted(examples, key=lambda example: labels.index(example.label))
        features = torch.from_numpy(np.stack([example.features for example in grouped]))
        features = features.to(self.device, torch.float32)
        class_of_example = torch.tensor([labels.index(example.label) for example in grouped])
        shots = torch.bincount(class_of_example, minlength=len(labels)).tolist()
        classes = torch.split(features, shots)
        prototypes = torch.stack([select_prototypes(examples[:, 0]) for examples in classes])
        relation, cosine = self.network.relation, self.network.cosine
        descriptors = None
        if cosine is not None:
            descriptors = torch.stack([cosine.describe(examples).mean(dim=0) for examples in classes])
        return SupportSet(
            labels=labels,
            example_ids=tuple(example.example_id for example in grouped),
            class_of_example=class_of_example.to(self.device),
            example_halves=relation.support_half(features),
            prototype_halves=relation.support_half(prototypes),
            class_descriptors=descriptors,
        )

    @torch.inference_mode()
    def score(self, support: SupportSet, query: Features) -> list[list[ClassScore]]:
        """Class scores of each query (queries, 3 parts, C, H, W), best first."""
        class_parts, pairs = self.class_parts(support, query)
        scores = self.class_scores(class_parts)
        in_class = support.class_of_example == torch.arange(
            len(support.labels), device=self.device
        ).unsqueeze(1)
        pair_means = pairs.mean(dim=-1)[:, None].expand(-1, len(support.labels), -1)
        nearest = pair_means.masked_fill(~in_class, -1).argmax(dim=-1)
        return self._rank(support, scores, class_parts, nearest)

    def class_parts(self, support: SupportSet, query: Features) -> tuple[Tensor, Tensor]:
        """How queries (queries, 3 parts, C, H, W) relate to classes and to examples.

        Returns: the parts of each class score (queries, way, parts), as `class_scores` takes them, and the
            relation scores of each pair (queries, examples, 3 parts).
        """
        relation, cosine = self.network.relation, self.network.cosine
        features = torch.from_numpy(query).to(self.device, torch.float32)
        halves = relation.query_half(features)
        pairs = relation.score_halves(support.example_halves, halves[:, None])
        others = [relation.score_halves(support.prototype_halves, halves[:, None, 0])]
        if cosine is not None:
            others.append(cosine(support.class_descriptors, cosine.describe(features)))

        queries, _, parts = pairs.shape
        shots = torch.bincount(support.class_of_example, minlength=len(support.labels))
        sums = pairs.new_zeros(queries, len(support.labels), parts)
        sums.index_add_(1, support.class_of_example, pairs)
        return torch.cat([sums / shots[:, None], torch.stack(others, dim=-1)], dim=-1), pairs

    def class_scores(self, class_parts: Tensor) -> Tensor:
        """The weighted mean of the parts: (..., way) in [0, 1].

        Args: class_parts (..., way, parts), in the order of `part_names`: the relation scores of face,
            eyes and lips averaged over each class's shots, of the selected prototype, and so on.
        """
        return (class_parts @ self._part_weights / self._part_weights.sum()).clamp(0, 1)

    def _rank(
        self, support: SupportSet, scores: Tensor, class_parts: Tensor, nearest: Tensor
    ) -> list[list[ClassScore]]:
        order = scores.argsort(dim=-1, descending=True, stable=True).tolist()
        score_rows, part_rows, nearest_rows = scores.tolist(), class_parts.tolist(), nearest.tolist()
        return [
            [
                ClassScore(
                    label=support.labels[index],
                    score=score_rows[query][index],
                    parts=dict(zip(self.part_names, part_rows[query][index], strict=True)),
                    nearest_example_id=support.example_ids[nearest_rows[query][index]],
                )
                for index in order[query]
            ]
            for query in range(len(order))
        ]
