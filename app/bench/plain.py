"""Class scores as the published code computes them: each query pays for the whole support set."""

from __future__ import annotations

import torch
from torch import Tensor

from app.inference.network import FaceBatch
from model.classifier import Classifier
from model.networks.csrn import FACE, FaceFeatures, spatial_means
from model.networks.episode_scores import cosine_similarity, score_cosines
from model.vision.patches import PART_COUNT


@torch.inference_mode()
def plain_scores(classifier: Classifier, support: FaceBatch, query: FaceBatch, *, way: int) -> Tensor:
    """Class scores (way,) of one query.

    The support set is encoded again, each pair goes through the whole relation module, and loops over
    classes and channels select the prototypes.

    Args: support, equally many examples of each class, one class after the other; query, one face.
    """
    network = classifier.network
    examples, asked = _features(classifier, support), _features(classifier, query)

    def relate(maps: Tensor, directions: Tensor, query_map: Tensor, query_direction: Tensor) -> Tensor:
        logits = network.relation(maps, query_map.expand_as(maps))
        scores: Tensor = network.relation.score(logits, (directions * query_direction).sum(dim=-1))
        return scores.reshape(way, -1).mean(dim=1)

    directions, query_directions = network.directions(examples.means), network.directions(asked.means)
    columns = [
        relate(examples.maps[:, part], directions[:, part], asked.maps[:, part], query_directions[:, part])
        for part in range(PART_COUNT)
    ]
    by_class = examples.maps[:, 0].reshape(way, -1, *network.feature_shape)
    prototypes = torch.stack([_select_by_loops(faces) for faces in by_class])
    prototype_directions = network.directions(spatial_means(prototypes), FACE)
    columns.append(
        relate(
            prototypes,
            prototype_directions,
            asked.maps[:, 0],
            query_directions[:, 0],
        )
    )
    query_descriptions = network.describe(asked)
    for name, described in network.describe(examples).items():
        means = described.reshape(way, -1, described.shape[-1]).mean(dim=1)
        columns.append(score_cosines(cosine_similarity(means, query_descriptions[name]))[0])
    return classifier.class_scores(torch.stack(columns, dim=-1))


def _features(classifier: Classifier, faces: FaceBatch) -> FaceFeatures:
    network, device = classifier.network, classifier.device
    pixels = torch.from_numpy(faces.patches).permute(0, 1, 4, 2, 3).to(device).float() / 255
    points = torch.from_numpy(faces.points).to(device)
    return FaceFeatures(
        maps=network.encode(pixels),
        blendshapes=None if network.geometry is None else network.geometry(points),
    )


def _select_by_loops(faces: Tensor) -> Tensor:
    """The selected prototype (C, H, W) of one class's face maps (shot, C, H, W)."""
    prototype = torch.empty_like(faces[0])
    means = faces.mean(dim=(2, 3))
    for channel in range(faces.shape[1]):
        distances = (means[:, channel] - means[:, channel].mean()).abs()
        prototype[channel] = faces[int(distances.argmin()), channel]
    return prototype
