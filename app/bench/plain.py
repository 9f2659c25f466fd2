"""The plain formulation, as the published code has it: every query pays for the whole support set."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from model.classifier import Classifier
from model.networks.csrn import CSRN, FACE, FaceFeatures
from model.networks.episode_scores import cosine_similarity, score_cosines
from model.vision.patches import PART_COUNT


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainFaces:
    """Faces before they are encoded."""

    pixels: Tensor
    """(faces, 3 parts, 3, size, size) float in [0, 1]"""
    points: Tensor
    """(faces, 468, 2) landmarks"""


@torch.inference_mode()
def plain_scores(classifier: Classifier, support: PlainFaces, query: PlainFaces, *, way: int) -> Tensor:
    """Class scores (way,) of one query, by the network as it was trained.

    The support set is encoded again, each pair goes through the whole relation module, and channels
    are selected by loops over classes and channels.

    Args: support, as many examples of each class, one class after the other; query, one face.
    """
    network = classifier.network
    examples, of_query = _encode(network, support), _encode(network, query)
    columns = []
    for part in range(PART_COUNT):
        of_part, of_this = examples.maps[:, part], of_query.maps[:, part]
        logits = network.relation(of_part, of_this.expand_as(of_part))
        directions = network.directions(examples.maps)[:, part] * network.directions(of_query.maps)[:, part]
        scores = network.relation.score(logits, directions.sum(dim=-1))
        columns.append(scores.reshape(way, -1).mean(dim=1))
    faces = examples.maps[:, 0].reshape(way, -1, *network.feature_shape)
    prototypes, of_face = torch.stack([_select_by_loops(of_class) for of_class in faces]), of_query.maps[:, 0]
    logits = network.relation(prototypes, of_face.expand_as(prototypes))
    directions = network.directions(prototypes, FACE) * network.directions(of_face, FACE)
    columns.append(network.relation.score(logits, directions.sum(dim=-1)))
    described = network.describe(of_query)
    for name, of_examples in network.describe(examples).items():
        means = of_examples.reshape(way, -1, of_examples.shape[-1]).mean(dim=1)
        columns.append(score_cosines(cosine_similarity(means, described[name]))[0])
    return classifier.class_scores(torch.stack(columns, dim=-1))


def _encode(network: CSRN, faces: PlainFaces) -> FaceFeatures:
    blendshapes = network.geometry(faces.points) if network.geometry is not None else None
    return FaceFeatures(maps=network.encode(faces.pixels), blendshapes=blendshapes)


def _select_by_loops(faces: Tensor) -> Tensor:
    """The selected prototype (C, H, W) of one class's face maps (shot, C, H, W)."""
    prototype = torch.empty_like(faces[0])
    means = faces.mean(dim=(2, 3))
    for channel in range(faces.shape[1]):
        of_channel = means[:, channel]
        nearest = int((of_channel - of_channel.mean()).abs().argmin())
        prototype[channel] = faces[nearest, channel]
    return prototype
