"""The plain formulation, as the published code has it: every query pays for the whole support set."""

from __future__ import annotations

import torch
from torch import Tensor

from model.classifier import Classifier
from model.network import PART_COUNT


@torch.inference_mode()
def plain_scores(classifier: Classifier, support: Tensor, query: Tensor) -> Tensor:
    """Class scores (way,) of one query, by the network as it was trained.

    The support set is encoded again, each pair goes through the whole relation module, and channels
    are selected by loops over classes and channels.

    Args: support (way, shot, 3 parts, 3, 64, 64) and query (3 parts, 3, 64, 64), float in [0, 1].
    """
    network = classifier.network
    way, shot = support.shape[:2]
    supports, of_query = network.encode(support), network.encode(query)
    columns = []
    for part in range(PART_COUNT):
        of_part = supports[:, :, part].flatten(0, 1)
        scores = network.relation(of_part, of_query[part].expand_as(of_part))
        columns.append(scores.reshape(way, shot).mean(dim=1))
    prototypes = torch.stack([_select_by_loops(faces) for faces in supports[:, :, 0]])
    columns.append(network.relation(prototypes, of_query[0].expand_as(prototypes)))
    if network.cosine is not None:
        means = network.cosine.describe(supports).mean(dim=1)
        columns.append(network.cosine(means, network.cosine.describe(of_query[None]))[0])
    return classifier.class_scores(torch.stack(columns, dim=-1))


def _select_by_loops(faces: Tensor) -> Tensor:
    """The selected prototype (C, H, W) of one class's face maps (shot, C, H, W)."""
    prototype = torch.empty_like(faces[0])
    means = faces.mean(dim=(2, 3))
    for channel in range(faces.shape[1]):
        of_channel = means[:, channel]
        nearest = int((of_channel - of_channel.mean()).abs().argmin())
        prototype[channel] = faces[nearest, channel]
    return prototype
