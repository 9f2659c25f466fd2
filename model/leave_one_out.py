"""Leave-one-out check of a support set: each example is classified by all the other examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.classifier import Classifier
from model.networks.csrn import FACE
from model.networks.episode_scores import score_cosines
from model.networks.relation import select_prototypes
from model.support_set import Example, Pairs, SupportSet
from model.vision.patches import PART_COUNT


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The result for one example as a query, with the example left out of its class."""

    example_id: str
    label: str
    predicted: str
    """The class with the highest score; `unknown_below` is ignored"""
    margin: float
    """Score of its own class minus the best score of another class; negative if misclassified"""


@torch.inference_mode()
def leave_one_out(
    classifier: Classifier,
    support: SupportSet,
    of_class: Sequence[Example],
    left_out: range,
) -> list[LeftOut]:
    """Score some examples of one class, each against the support set without that example.

    Args:
        support: has at least two classes.
        of_class: all examples of one of its classes, in the support set's order; at least two.
        left_out: indices of the examples to score.
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
    """Class parts (left out, way, parts); leaving an example out changes those of its own class alone."""
    way, shots = len(support.labels), len(of_class)
    stored = np.stack([example.features for example in of_class])
    queries = torch.tensor([*left_out], device=classifier.device)
    requests = [(support, stored[left_out.start : left_out.stop])]
    pair_scores, class_parts = classifier.relate(requests, Pairs.of(requests))
    pairs = pair_scores.reshape(len(queries), -1, PART_COUNT)
    parts = class_parts.reshape(len(queries), way, -1).clone()

    first = int((support.class_of_example < own).sum())
    with_itself = pairs[torch.arange(len(queries)), first + queries]
    parts[:, own, :PART_COUNT] = (parts[:, own, :PART_COUNT] * shots - with_itself) / (shots - 1)

    examples = classifier.unpack(stored)
    everyone = torch.arange(shots, device=classifier.device).expand(len(queries), -1)
    others = everyone[everyone != queries[:, None]].reshape(len(queries), shots - 1)
    prototypes = classifier.relation.support_half(select_prototypes(examples.maps[:, FACE][others]), FACE)
    faces = classifier.relation.query_half(examples.maps[queries])[:, FACE]
    with_own = [(prototypes[index : index + 1], faces[index : index + 1]) for index in range(len(queries))]
    parts[:, own, PART_COUNT] = classifier.relation.score(with_own)
    for index, described in enumerate(classifier.network.describe(examples).values(), start=PART_COUNT + 1):
        means = (described.sum(dim=0) - described[queries]) / (shots - 1)
        cosines = torch.nn.functional.cosine_similarity(means, described[queries], dim=-1)
        parts[:, own, index] = score_cosines(cosines)
    return parts
