"""How well a support set tells its own examples apart: each is scored by the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.classifier import Classifier
from model.networks.pairs import Pairs
from model.networks.relation import PART_COUNT, score_cosines, select_prototypes
from model.support_set import Example, SupportSet


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What becomes of one example as a query, its class being made of its other examples."""

    example_id: str
    label: str
    predicted: str
    """The class with the highest score, whatever `unknown_below`"""
    margin: float
    """Score of its own class less the best other's: below 0 where it is told wrong"""


@torch.inference_mode()
def leave_one_out(
    classifier: Classifier,
    support: SupportSet,
    of_class: Sequence[Example],
    left_out: range,
) -> list[LeftOut]:
    """Score some examples of one class, each by the support set without it.

    Args:
        support: of two classes or more.
        of_class: all the examples of one of its classes, in the support set's order; two or more.
        left_out: which of them to score.
    """
    label = of_class[0].label
    own = support.labels.index(label)
    scores = classifier.class_scores(_class_parts(classifier, support, of_class, left_out, own))
    rivals = scores.clone()
    rivals[:, own] = -1
    margins = scores[:, own] - rivals.amax(dim=1)
    return [
        LeftOut(
            example_id=of_class[index].example_id,
            label=label,
            predicted=label if margin >= 0 else support.labels[rival],
            margin=margin,
        )
        for index, margin, rival in zip(
            left_out, margins.tolist(), rivals.argmax(dim=1).tolist(), strict=True
        )
    ]


def _class_parts(
    classifier: Classifier, support: SupportSet, of_class: Sequence[Example], left_out: range, own: int
) -> Tensor:
    """Parts (left out, way, parts): only those of the own class are changed by leaving one out."""
    way, shots = len(support.labels), len(of_class)
    stored = np.stack([example.features for example in of_class])
    queries = torch.tensor([*left_out], device=classifier.device)
    asked = [(support, stored[left_out.start : left_out.stop])]
    pair_scores, class_parts = classifier.relate(asked, Pairs.of(asked))
    pairs = pair_scores.reshape(len(queries), -1, PART_COUNT)
    parts = class_parts.reshape(len(queries), way, -1).clone()

    first = int((support.class_of_example < own).sum())
    with_itself = pairs[torch.arange(len(queries)), first + queries]
    parts[:, own, :PART_COUNT] = (parts[:, own, :PART_COUNT] * shots - with_itself) / (shots - 1)

    examples = classifier.unpack(stored)
    everyone = torch.arange(shots, device=classifier.device).expand(len(queries), -1)
    others = everyone[everyone != queries[:, None]].reshape(len(queries), shots - 1)
    prototypes = classifier.relation.prototype_half(select_prototypes(examples.maps[:, 0][others]))
    faces = classifier.relation.query_half(examples.maps[queries])[:, 0]
    with_own = [(prototypes[index : index + 1], faces[index : index + 1]) for index in range(len(queries))]
    parts[:, own, PART_COUNT] = classifier.relation.score(with_own)
    for index, described in enumerate(classifier.network.describe(examples).values(), start=PART_COUNT + 1):
        means = (described.sum(dim=0) - described[queries]) / (shots - 1)
        cosines = torch.nn.functional.cosine_similarity(means, described[queries], dim=-1)
        parts[:, own, index] = score_cosines(cosines)
    return parts
