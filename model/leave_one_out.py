"""Leave-one-out check of a support set: each example is classified by all the other examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from model.classifier import Classifier
from model.networks.csrn import FACE
from model.networks.episode_scores import score_cosines
from model.networks.relation import select_prototypes
from model.support_set import Example, Scores, SupportSet
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
    class_parts = torch.from_numpy(_class_parts(classifier, support, of_class, left_out, own))
    scores = classifier.class_scores(class_parts)
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
) -> Scores:
    """Class parts (left out, way, parts); leaving an example out changes those of its own class alone."""
    shots, queries = len(of_class), np.array(left_out)
    stored = np.stack([example.features for example in of_class])
    pairs, class_parts = classifier.relate([support] * len(queries), stored[queries])
    parts = class_parts.reshape(len(queries), len(support.labels), -1)

    of_pairs = pairs.of_pairs.reshape(len(queries), -1, PART_COUNT)
    with_itself = of_pairs[np.arange(len(queries)), support.first_examples[own] + queries]
    parts[:, own, :PART_COUNT] = (parts[:, own, :PART_COUNT] * shots - with_itself) / (shots - 1)

    examples = classifier.unpack(stored)
    number = torch.arange(shots, device=classifier.device)
    asked = number[left_out.start : left_out.stop]
    others = number.expand(len(queries), -1)
    others = others[others != asked[:, None]].reshape(len(queries), shots - 1)
    prototypes = classifier.relation.support_half(select_prototypes(examples.maps[:, FACE][others]), FACE)
    faces = classifier.relation.query_half(examples[asked])[:, FACE]
    each = [prototypes[index : index + 1] for index in range(len(queries))]
    columns = [classifier.relation.score(each, faces, number[: len(queries)])]
    for described in classifier.network.describe(examples).values():
        means = (described.sum(dim=0) - described[asked]) / (shots - 1)
        columns.append(score_cosines(nn.functional.cosine_similarity(means, described[asked], dim=-1)))
    parts[:, own, PART_COUNT:] = torch.stack(columns, dim=1).cpu().numpy()
    return parts
