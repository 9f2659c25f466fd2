"""Few-shot classification: patches to feature maps, support sets and class scores.

    score(class, query) = sum_p w_p * r_p / sum_p w_p

over the parts p = face, eyes, lips and prototype. For face, eyes and lips, r_p is the mean relation score
over the class's shots; for the prototype it is one relation score. With the paper's weights 1, 1, 1, 0.7 and
equal shots, classes are ordered exactly as by the paper's sum over shots. The mean also compares classes of
unequal shots and stays in [0, 1]. A checkpoint may add parts that compare the query with the mean of a class:
cosine (of the feature maps), votes (of the predicted shares of annotators' votes) and geometry (of the
blendshape coefficients).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.networks.csrn import FACE, FaceFeatures
from model.networks.episode_scores import score_cosines
from model.networks.folded import FoldedRelation, fold_batch_norms
from model.networks.relation import select_prototypes
from model.support_set import Example, Features, Pairs, SupportSet
from model.unknown import describe_session
from model.vision.patches import PART_COUNT


class ClassScore(NamedTuple):
    """The score of one class for one query. A tuple, because an answer may hold tens of thousands."""

    label: str
    score: float
    """Weighted mean of the parts, in [0, 1]"""
    parts: dict[str, float]
    """face, eyes, lips, prototype and the checkpoint's further parts, each in [0, 1]"""
    nearest_example_id: str
    """The example whose face, eyes and lips score highest with the query"""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class QueryScores:
    """The scores of one query with every class of a support set, as the device computed them."""

    labels: tuple[str, ...]
    example_ids: tuple[str, ...]
    part_names: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    """(way,) weighted means of the parts, in [0, 1]"""
    parts: npt.NDArray[np.float32]
    """(way, parts) in [0, 1]"""
    nearest: npt.NDArray[np.int64]
    """(way,) numbers of the examples whose face, eyes and lips score highest with the query"""

    def ranked(self) -> list[ClassScore]:
        """The class scores, best first; ties keep the order of the support set."""
        order = np.argsort(-self.scores, kind="stable")
        columns = self.scores[order].tolist(), self.parts[order].tolist(), self.nearest[order].tolist()
        return [
            ClassScore(
                label=self.labels[number],
                score=score,
                parts=dict(zip(self.part_names, parts, strict=True)),
                nearest_example_id=self.example_ids[nearest],
            )
            for number, score, parts, nearest in zip(order.tolist(), *columns, strict=True)
        ]


class Classifier:
    """Encodes patches and scores queries with one checkpoint. Stateless between calls.

    Support sets are arguments, so one classifier serves any number of sessions.
    """

    def __init__(self, checkpoint: Checkpoint, *, encoder_dtype: torch.dtype = torch.float32) -> None:
        """encoder_dtype: bfloat16 is faster where the hardware supports it; features are float16 anyway."""
        self.checkpoint = checkpoint
        self.device = next(checkpoint.network.parameters()).device
        self.network = checkpoint.network
        self.relation = FoldedRelation(checkpoint.network, dtype=torch.float32)
        self._encoder = fold_batch_norms(checkpoint.network.encoder).to(dtype=encoder_dtype)
        self._encoder.to(memory_format=torch.channels_last)
        weights = checkpoint.config.part_weights.by_name()
        self.part_names = tuple(weights)
        self._part_weights = torch.tensor([*weights.values()]).to(self.device)

    @torch.inference_mode()
    def encode(self, patches: npt.NDArray[np.uint8], points: npt.NDArray[np.float32]) -> Features:
        """Features (faces, numbers) float16.

        Args: patches (faces, 3 parts, size, size, 3); points (faces, 468, 2) landmarks.
        """
        # An NHWC array permuted to NCHW is channels_last already, which is fastest for convolutions.
        stored = torch.from_numpy(patches)
        if self.device.type == "cuda":
            # A copy from pinned memory does not block the thread.
            stored = stored.pin_memory().to(self.device, non_blocking=True)
        pixels = stored.permute(0, 1, 4, 2, 3).flatten(0, 1)
        features = self._encoder(pixels.float() / 255).contiguous().half().reshape(len(patches), -1)
        if self.network.geometry is not None:
            blendshapes = self.network.geometry(torch.from_numpy(points).to(self.device))
            features = torch.cat([features, blendshapes.half()], dim=1)
        encoded: Features = features.cpu().numpy()
        return encoded

    @torch.inference_mode()
    def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """Prepare at least one example for scoring."""
        labels = tuple(dict.fromkeys(example.label for example in examples))
        grouped = sorted(examples, key=lambda example: labels.index(example.label))
        faces = self.unpack(np.stack([example.features for example in grouped]))
        class_of_example = np.array([labels.index(example.label) for example in grouped])
        shots = np.bincount(class_of_example).tolist()
        face_maps = torch.split(faces.maps[:, FACE], shots)
        described = self.network.describe(faces)
        config = self.checkpoint.config
        weights = {name: getattr(config.part_weights, name) for name in described}
        statistics = describe_session(described, class_of_example, weights)
        return SupportSet(
            labels=labels,
            example_ids=tuple(example.example_id for example in grouped),
            class_of_example=class_of_example,
            example_halves=self.relation.support_half(faces.maps),
            prototype_halves=self.relation.support_half(
                torch.stack([select_prototypes(maps) for maps in face_maps]), FACE
            ),
            class_means={
                name: torch.stack([part.mean(dim=0) for part in torch.split(found, shots)])
                for name, found in described.items()
            },
            unknown_below=config.unknown_below(statistics),
        )

    def unpack(self, features: Features) -> FaceFeatures:
        """Move stored features (..., numbers) to the device and split them."""
        return self.network.unpack(torch.from_numpy(features).to(self.device))

    def score(self, support: SupportSet, query: Features) -> list[list[ClassScore]]:
        """Class scores of each query's features (queries, numbers), best first."""
        (scores,) = self.score_all([(support, query)])
        return [of_query.ranked() for of_query in scores]

    @torch.inference_mode()
    def score_all(self, requests: Sequence[tuple[SupportSet, Features]]) -> list[list[QueryScores]]:
        """Score the queries of many support sets of any way and shots at once, each as `score` does.

        The scores are not ranked here, so that other threads can do it.
        """
        pairs = Pairs.of(requests)
        pair_scores, class_parts = self.relate(requests, pairs)
        scores, parts = self.class_scores(class_parts).cpu().numpy(), class_parts.cpu().numpy()
        nearest = pairs.best_example(pair_scores.mean(dim=-1))
        scored, start = [], 0
        for support, query in requests:
            way = len(support.labels)
            rows = [slice(start + way * number, start + way * (number + 1)) for number in range(len(query))]
            start += way * len(query)
            scored.append(
                [
                    QueryScores(
                        labels=support.labels,
                        example_ids=support.example_ids,
                        part_names=self.part_names,
                        scores=scores[of_query],
                        parts=parts[of_query],
                        nearest=nearest[of_query],
                    )
                    for of_query in rows
                ]
            )
        return scored

    def relate(self, requests: Sequence[tuple[SupportSet, Features]], pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Relation scores (pairs, 3 parts), and the class parts (rows, parts) that `class_scores` takes."""
        queries = self.unpack(np.concatenate([query for _, query in requests]))
        counts = [len(query) for _, query in requests]
        starts = np.cumsum([0, *counts])
        together = self.relation.query_half(queries.maps)
        halves = [together[start : start + count] for start, count in zip(starts, counts, strict=False)]
        supports = [support for support, _ in requests]
        scores = self.relation.score(
            [
                *((s.example_halves, query) for s, query in zip(supports, halves, strict=True)),
                *((s.prototype_halves, query[:, FACE]) for s, query in zip(supports, halves, strict=True)),
            ]
        )
        pair_scores = scores[: -pairs.row_count].reshape(-1, PART_COUNT)
        parts = [*pairs.class_means(pair_scores).unbind(dim=-1), scores[-pairs.row_count :]]
        for name, described in self.network.describe(queries).items():
            classes = torch.cat([support.class_means[name] for support in supports])
            parts.append(score_cosines(pairs.cosines(classes, described)))
        return pair_scores, torch.stack(parts, dim=-1)

    def class_scores(self, class_parts: Tensor) -> Tensor:
        """The weighted mean of the parts: (..., way) in [0, 1].

        Args: class_parts (..., way, parts), in the order of `part_names`; the relation scores of face,
            eyes and lips are averaged over each class's shots.
        """
        return (class_parts @ self._part_weights / self._part_weights.sum()).clamp(0, 1)
