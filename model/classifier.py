"""Few-shot classification: patches to feature maps, support sets and class scores.

    score(class, query) = sum_p w_p * r_p / sum_p w_p

over the parts p = face, eyes, lips and prototype, where r_p is the mean relation score of the part
over the class's shots (of the prototype: its one score). With the paper's weights 1, 1, 1, 0.7 and
equal shots this orders classes exactly as the paper's sum over shots does; the mean also compares
classes of unequal shots, and stays in [0, 1]. A checkpoint may add a fifth part, cosine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.folded import FoldedRelation, fold_batch_norms
from model.network import PART_COUNT, select_prototypes
from model.pairs import Pairs
from model.support_set import Example, Features, SupportSet


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

    def __init__(self, checkpoint: Checkpoint, *, encoder_dtype: torch.dtype = torch.float32) -> None:
        """encoder_dtype: bfloat16 takes less time where the hardware has it; features are float16 anyway."""
        self.checkpoint = checkpoint
        self.device = next(checkpoint.network.parameters()).device
        self.network = checkpoint.network
        self.relation = FoldedRelation(checkpoint.network.relation, dtype=torch.float32)
        self._encoder = fold_batch_norms(checkpoint.network.encoder).to(dtype=encoder_dtype)
        self._encoder.to(memory_format=torch.channels_last)
        weights = checkpoint.config.part_weights.by_name()
        self.part_names = tuple(weights)
        self._part_weights = torch.tensor([*weights.values()]).to(self.device)

    @torch.inference_mode()
    def encode(self, patches: npt.NDArray[np.uint8]) -> Features:
        """Patches (faces, 3 parts, 64, 64, 3) uint8 to features (faces, 3 parts, C, H, W) float16."""
        # NHWC in memory seen as NCHW is already channels_last, the layout convolutions like best.
        stored = torch.from_numpy(patches)
        if self.device.type == "cuda":
            # From pinned memory the copy does not hold up the thread that queues the network's work.
            stored = stored.pin_memory().to(self.device, non_blocking=True)
        pixels = stored.permute(0, 1, 4, 2, 3).flatten(0, 1)
        features = self._encoder(pixels.float() / 255).unflatten(0, patches.shape[:2])
        encoded: Features = features.half().contiguous().cpu().numpy()
        return encoded

    @torch.inference_mode()
    def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """Make a support set of at least one example ready for scoring."""
        labels = tuple(dict.fromkeys(example.label for example in examples))
        grouped = sorted(examples, key=lambda example: labels.index(example.label))
        features = torch.from_numpy(np.stack([example.features for example in grouped]))
        features = features.to(self.device, torch.float32)
        class_of_example = np.array([labels.index(example.label) for example in grouped])
        classes = torch.split(features, np.bincount(class_of_example).tolist())
        prototypes = torch.stack([select_prototypes(examples[:, 0]) for examples in classes])
        cosine, descriptors = self.network.cosine, None
        if cosine is not None:
            descriptors = torch.stack([cosine.describe(examples).mean(dim=0) for examples in classes])
        return SupportSet(
            labels=labels,
            example_ids=tuple(example.example_id for example in grouped),
            class_of_example=class_of_example,
            example_halves=self.relation.support_half(features),
            prototype_halves=self.relation.support_half(prototypes),
            class_descriptors=descriptors,
        )

    def score(self, support: SupportSet, query: Features) -> list[list[ClassScore]]:
        """Class scores of each query (queries, 3 parts, C, H, W), best first."""
        (scores,) = self.score_all([(support, query)])
        return scores

    @torch.inference_mode()
    def score_all(self, asked: Sequence[tuple[SupportSet, Features]]) -> list[list[list[ClassScore]]]:
        """`score` of many support sets, each with its queries, in one go whatever their ways and shots."""
        pairs = Pairs.of(asked)
        pair_scores, class_parts = self.relate(asked, pairs)
        scores = iter(self.class_scores(class_parts).tolist())
        parts = iter(class_parts.tolist())
        nearest = iter(pairs.best_example(pair_scores.mean(dim=-1)))
        return [
            [self._rank(support, scores, parts, nearest) for _ in range(len(query))]
            for support, query in asked
        ]

    def relate(self, asked: Sequence[tuple[SupportSet, Features]], pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Relation scores (pairs, 3 parts), and class parts (rows, parts) as `class_scores` takes them."""
        cosine = self.network.cosine
        features = np.concatenate([query for _, query in asked])
        queries = torch.from_numpy(features).to(self.device, torch.float32)
        halves = torch.split(self.relation.query_half(queries), [len(query) for _, query in asked])
        supports = [support for support, _ in asked]
        scores = self.relation.score(
            [
                *((s.example_halves, query) for s, query in zip(supports, halves, strict=True)),
                *((s.prototype_halves, query[:, 0]) for s, query in zip(supports, halves, strict=True)),
            ]
        )
        pair_scores = scores[: -pairs.row_count].reshape(-1, PART_COUNT)
        parts = [*pairs.class_means(pair_scores).unbind(dim=-1), scores[-pairs.row_count :]]
        if cosine is not None:
            classes = torch.cat([s.class_descriptors for s in supports if s.class_descriptors is not None])
            parts.append(cosine.score(pairs.cosines(classes, cosine.describe(queries))))
        return pair_scores, torch.stack(parts, dim=-1)

    def class_scores(self, class_parts: Tensor) -> Tensor:
        """The weighted mean of the parts: (..., way) in [0, 1].

        Args: class_parts (..., way, parts), in the order of `part_names`: the relation scores of face,
            eyes and lips averaged over each class's shots, of the selected prototype, and so on.
        """
        return (class_parts @ self._part_weights / self._part_weights.sum()).clamp(0, 1)

    def _rank(
        self,
        support: SupportSet,
        scores: Iterator[float],
        parts: Iterator[list[float]],
        nearest: Iterator[int],
    ) -> list[ClassScore]:
        """The next query's class scores, best first; of equal ones the class that was there first."""
        classes = [
            ClassScore(
                label=label,
                score=next(scores),
                parts=dict(zip(self.part_names, next(parts), strict=True)),
                nearest_example_id=support.example_ids[next(nearest)],
            )
            for label in support.labels
        ]
        return sorted(classes, key=lambda score: -score.score)
