"""What training minimises: labels and landmark geometry while warming up, relation scores in episodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.checkpoint import PartWeights
from model.encoders import Conv4Encoder, ResNet12Encoder
from model.network import CSRN, PART_COUNT, EpisodeScores, score_episodes
from model.patches import PARTS

LABEL_SMOOTHING = 0.1
PART_LABEL_WEIGHTS = {"face": 0.5, "eyes": 0.25, "lips": 0.25}
"""Weight of each patch's own cross-entropy beside that of the three together"""
LANDMARK_WEIGHT = 0.3
WHOLE_FACES = 0.5
"""Share of a batch's images of which eyes and lips are looked at too; of the others the face alone"""
MAP_CHANGE_WEIGHT = 1e-4
MAX_DEVIATIONS = 4.0
"""Landmark components further out are misplaced landmarks more often than expressions"""


class WarmUp(nn.Module):
    """Supervised objective of the encoder: labels, and the landmark components of the same face.

    Each patch predicts both from the spatial mean of its feature map. The components steady the
    encoder against noisy labels; without them it learns slower (docs/training.md). The face says most
    and costs a third, so a share of the images is learnt from by its face alone: in the same time
    more faces are seen.
    """

    def __init__(self, encoder: Conv4Encoder | ResNet12Encoder, *, classes: int, components: int) -> None:
        super().__init__()
        self.encoder = encoder
        channels = encoder.feature_shape[0]
        self.dropout = nn.Dropout(0.2)
        self.labels = nn.ModuleList(nn.Linear(channels, classes) for _ in PARTS)
        self.components = nn.ModuleList(nn.Linear(channels, components) for _ in PARTS)

    def forward(self, pixels: Tensor, labels: Tensor, components: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy.

        Args: pixels (images, 3 parts, 3, 64, 64); labels (images,) int64; components (images, count).
        """
        whole = max(round(WHOLE_FACES * len(pixels)), 1)
        means = self._means(pixels[:, 0], *pixels[:whole, 1:].unbind(dim=1))
        logits = self._logits(means)
        together = torch.stack([of_part[:whole] for of_part in logits]).sum(dim=0)
        loss = _cross_entropy(together, labels[:whole])
        targets = components.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        for name, head, of_part, mean in zip(PARTS, self.components, logits, means, strict=True):
            loss = loss + PART_LABEL_WEIGHTS[name] * _cross_entropy(of_part, labels[: len(of_part)])
            errors = head(mean).float() - targets[: len(mean)]
            loss = loss + LANDMARK_WEIGHT / PART_COUNT * errors.square().mean()
        return loss, (together.argmax(dim=1) == labels[:whole]).float().mean()

    def predict(self, pixels: Tensor) -> Tensor:
        """Labels (images,) of pixels (images, 3 parts, 3, 64, 64)."""
        return torch.stack(self._logits(self._means(*pixels.unbind(dim=1)))).sum(dim=0).argmax(dim=1)

    def _means(self, *patches: Tensor) -> list[Tensor]:
        """Spatial means (images, C) of each part's patches (images, 3, 64, 64), encoded at once."""
        maps = self.encoder(torch.cat(patches))
        means = self.dropout(maps.mean(dim=(-2, -1)))
        return list(torch.split(means, [len(of_part) for of_part in patches]))

    def _logits(self, means: list[Tensor]) -> list[Tensor]:
        return [head(mean).float() for head, mean in zip(self.labels, means, strict=True)]


class EpisodeObjective(nn.Module):
    """The paper's objective, done right: every class against every query, prototypes included.

    The sum over face, eyes and lips of the mean squared error of their relation scores, plus 0.7
    times that of the selected prototypes, against 1 for the query's class and 0 otherwise. A cosine
    module's scores add theirs, from episodes of labels alone: classes of landmark geometry were
    measured to make its map worse. They reach only its own parameters. The map is held to the
    identity, because what it learns of one data set's labels is of less use on other faces.
    """

    def __init__(self, network: CSRN, *, freeze_encoder: bool) -> None:
        super().__init__()
        self.network = network
        self.freeze_encoder = freeze_encoder
        network.encoder.requires_grad_(not freeze_encoder)

    def train(self, mode: bool = True) -> EpisodeObjective:
        super().train(mode)
        if self.freeze_encoder:
            self.network.encoder.eval()
        return self

    def forward(self, pixels: Tensor, by_labels: Tensor, shot: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of episodes.

        Args:
            pixels: (episodes, way, shot + query, 3 parts, 3, 64, 64), supports first.
            by_labels: (episodes,) bool, false where the classes are of landmark geometry.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            maps = self.network.encode(pixels)
        _, way, images = maps.shape[:3]
        scores = score_episodes(self.network, maps[:, :, :shot], maps[:, :, shot:].flatten(1, 2))
        truth = torch.eye(way, device=maps.device).repeat_interleave(images - shot, dim=0)
        best = scores.class_parts()[..., : PART_COUNT + 1].mean(dim=-1).argmax(dim=-1)
        right = (best == truth.argmax(dim=-1)).float().mean()
        return self._loss(scores, truth, by_labels), right

    def _loss(self, scores: EpisodeScores, truth: Tensor, by_labels: Tensor) -> Tensor:
        weights = PartWeights()
        errors = (scores.pairs.float() - truth[:, :, None, None]).square().mean(dim=(0, 1, 2, 3))
        loss = errors @ errors.new_tensor([weights.face, weights.eyes, weights.lips])
        loss = loss + weights.prototype * (scores.prototypes.float() - truth).square().mean()
        if scores.cosines is not None:
            of_episodes = (scores.cosines.float() - truth).square().mean(dim=(1, 2))
            loss = loss + (of_episodes * by_labels).sum() / by_labels.sum().clamp_min(1)
        if self.network.cosine is not None:
            loss = loss + MAP_CHANGE_WEIGHT * self.network.cosine.map_change()
        return loss


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
