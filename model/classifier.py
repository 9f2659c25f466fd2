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
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.networks.csrn import FACE, FaceFeatures
from model.networks.folded import FoldedDescriptions, FoldedRelation, fold_batch_norms
from model.networks.relation import Half, select_prototypes
from model.support_set import Example, Features, Indices, PairScores, Scores, SupportSet
from model.transfer import Transfer
from model.unknown import describe_session
from model.vision.landmarks import Points
from model.vision.patches import PART_COUNT, Patches


class ClassScore(NamedTuple):
    """The score of one class for one query. A tuple, because a response may contain tens of thousands."""

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
    """(way,) index in `example_ids` of the example whose face, eyes and lips score highest with the query"""

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
    """Encodes patches and scores queries with one checkpoint.

    Support sets are arguments, so one classifier serves any number of sessions. Only one thread at a time may
    use it, because all calls share one buffer for copies to the device and one for copies back.
    """

    @torch.inference_mode()
    def __init__(self, checkpoint: Checkpoint, *, encoder_dtype: torch.dtype = torch.float32) -> None:
        """encoder_dtype: bfloat16 is faster where the hardware supports it; features are float16 anyway."""
        self.checkpoint = checkpoint
        self.device = next(checkpoint.network.parameters()).device
        self.network = checkpoint.network
        self.relation = FoldedRelation(checkpoint.network, dtype=torch.float32)
        self._encoder = fold_batch_norms(checkpoint.network.encoder).to(dtype=encoder_dtype)
        self._encoder.to(memory_format=torch.channels_last)
        self._transfer = Transfer(self.device)
        weights = checkpoint.config.part_weights.by_name()
        self.part_names = tuple(weights)
        part_weights = torch.tensor([*weights.values()])
        self._part_shares = part_weights / part_weights.sum()
        self._describe = FoldedDescriptions(self.network)
        lengths = self._describe.lengths
        part_of_number = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
        self._sums_of_parts = torch.eye(len(lengths))[part_of_number].to(self.device)
        """(D, parts): a product with this matrix adds the numbers of each part of a description"""

    @torch.inference_mode()
    def encode(self, patches: Patches, points: Points) -> Features:
        """Features (faces, numbers) float16, in the form that a session stores.

        Args: patches (faces, 3 parts, size, size, 3); points (faces, 468, 2) landmarks.
        """
        encoded = self.encode_on_device(*self._transfer.to_device([[patches], [points]]))
        columns = [encoded.maps.flatten(1)]
        if encoded.blendshapes is not None:
            columns.append(encoded.blendshapes)
        (features,) = self._transfer.to_host([torch.cat(columns, dim=1)])
        return features

    def encode_on_device(self, patches: Tensor, points: Tensor) -> FaceFeatures:
        """Features (faces, ...) float16, on the device.

        Args: as of `encode`, but tensors on the device.
        """
        # An NHWC array permuted to NCHW is channels_last already, which is fastest for convolutions.
        pixels = patches.permute(0, 1, 4, 2, 3).flatten(0, 1)
        maps = self._encoder(pixels.float() / 255).half().unflatten(0, (-1, PART_COUNT))
        geometry = self.network.geometry
        return FaceFeatures(maps=maps, blendshapes=None if geometry is None else geometry(points).half())

    @torch.inference_mode()
    def build_support_set(self, examples: Sequence[Example]) -> SupportSet:
        """Prepare at least one example for scoring."""
        labels = tuple(dict.fromkeys(example.label for example in examples))
        grouped = sorted(examples, key=lambda example: labels.index(example.label))
        faces = self.unpack(np.stack([example.features for example in grouped]))
        class_of_example = np.array([labels.index(example.label) for example in grouped])
        shots = np.bincount(class_of_example)
        by_class = torch.split(faces.maps[:, FACE], shots.tolist())
        of_examples = self.relation.support_half(faces.maps)
        of_prototypes = self.relation.support_half(
            torch.stack([select_prototypes(maps) for maps in by_class]), FACE
        )
        described = self.network.describe(faces)
        config = self.checkpoint.config
        weights = {name: getattr(config.part_weights, name) for name in described}
        statistics = describe_session(described, class_of_example, weights)
        return SupportSet(
            labels=labels,
            example_ids=tuple(example.example_id for example in grouped),
            shots=shots,
            halves=Half(
                convolved=_class_by_class(of_examples.convolved, of_prototypes.convolved, shots),
                direction=_class_by_class(of_examples.direction, of_prototypes.direction, shots),
            ),
            class_directions=torch.cat(
                [_class_directions(found, shots) for found in described.values()]
                or [faces.maps.new_zeros(len(labels), 0)],
                dim=1,
            ),
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
        supports = [support for support, query in requests for _ in query]
        related = self.relate(supports, np.concatenate([query for _, query in requests]))
        scored = iter(self._score(supports, *related))
        return [[next(scored) for _ in query] for _, query in requests]

    @torch.inference_mode()
    def classify(self, requests: Sequence[tuple[SupportSet, Patches, Points]]) -> list[list[QueryScores]]:
        """Encode and score the faces of many requests at once, as `encode` and `score_all` do.

        The features stay on the device.
        """
        supports = [support for support, patches, _ in requests for _ in patches]
        patches, points, *indices = self._transfer.to_device(
            [
                [patches for _, patches, _ in requests],
                [points for _, _, points in requests],
                *_query_indices(supports),
            ]
        )
        faces = self.encode_on_device(patches, points).float()
        scored = iter(self._score(supports, *self._relate(supports, faces, *indices)))
        return [[next(scored) for _ in patches] for _, patches, _ in requests]

    @torch.inference_mode()
    def relate(self, supports: Sequence[SupportSet], queries: Features) -> tuple[PairScores, Scores]:
        """Relation scores, and the class parts (rows, parts) that `class_scores` takes.

        Args: supports, one for each query; queries (queries, numbers).
        """
        features, *indices = self._transfer.to_device([[queries], *_query_indices(supports)])
        return self._relate(supports, self.network.unpack(features), *indices)

    def _relate(
        self,
        supports: Sequence[SupportSet],
        queries: FaceFeatures,
        query_half_of_pair: Tensor,
        query_of_row: Tensor,
    ) -> tuple[PairScores, Scores]:
        """As `relate`, with the indices of `_query_indices` on the device."""
        halves = self.relation.query_half(queries).flatten()
        scores = self.relation.score([support.halves for support in supports], halves, query_half_of_pair)
        if not self._describe.lengths:
            (scores_there,) = self._transfer.to_host([scores])
            pairs = PairScores.of(scores_there, supports)
            return pairs, pairs.of_classes
        classes = torch.cat([support.class_directions for support in supports])
        cosines = self._cosines(classes, self._describe(queries), query_of_row)
        scores_there, cosines_there = self._transfer.to_host([scores, cosines])
        pairs = PairScores.of(scores_there, supports)
        return pairs, np.concatenate([pairs.of_classes, (1 + cosines_there) / 2], axis=1)

    def _cosines(self, class_directions: Tensor, described: Tensor, query_of_row: Tensor) -> Tensor:
        """Cosine (rows, parts) of each row's class (rows, D) with its query, one of (queries, D)."""
        lengths = (described.square() @ self._sums_of_parts).sqrt().clamp_min(1e-12)
        products = (class_directions * described.index_select(0, query_of_row)) @ self._sums_of_parts
        return products / lengths.index_select(0, query_of_row)

    def _score(
        self, supports: Sequence[SupportSet], pairs: PairScores, class_parts: Scores
    ) -> Iterator[QueryScores]:
        scores = self.class_scores(torch.from_numpy(class_parts)).numpy()
        start = 0
        for support in supports:
            rows = slice(start, start := start + len(support.labels))
            yield QueryScores(
                labels=support.labels,
                example_ids=support.example_ids,
                part_names=self.part_names,
                scores=scores[rows],
                parts=class_parts[rows],
                nearest=pairs.nearest[rows],
            )

    def class_scores(self, class_parts: Tensor) -> Tensor:
        """The weighted mean of the parts: (..., way) in [0, 1].

        Args: class_parts (..., way, parts), in the order of `part_names`; the relation scores of face,
            eyes and lips are averaged over each class's shots.
        """
        return (class_parts @ self._part_shares.to(class_parts.device)).clamp(0, 1)


def _query_indices(supports: Sequence[SupportSet]) -> tuple[list[Indices], list[Indices]]:
    """The query half that each support half is scored with, and the query that each class is scored with.

    Query halves are counted query by query, then part by part. Each list has one entry for each query.
    """
    halves = [support.part_of_half + PART_COUNT * query for query, support in enumerate(supports)]
    return halves, [np.full(len(support.labels), query) for query, support in enumerate(supports)]


def _class_by_class(of_examples: Tensor, of_prototypes: Tensor, shots: Indices) -> Tensor:
    """Order values (examples, 3 parts, ...) and (classes, ...) as `SupportSet.halves`."""
    ordered = []
    for examples, prototype in zip(torch.split(of_examples, shots.tolist()), of_prototypes, strict=True):
        ordered += [*examples.unbind(dim=1), prototype[None]]
    return torch.cat(ordered)


def _class_directions(described: Tensor, shots: Indices) -> Tensor:
    """(classes, D) directions of the class means of descriptions (examples, D)."""
    means = [found.mean(dim=0) for found in torch.split(described, shots.tolist())]
    return nn.functional.normalize(torch.stack(means), dim=1)
