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
MAX_DEVIATIONS = 4.0
"""Landmark components further out are misplaced landmarks more often than expressions"""


class WarmUp(nn.Module):
    """Supervised objective of the encoder: labels, and the landmark components of the same face.

    Each patch predicts both from the spatial mean of its feature map. The components steady the
    encoder against noisy labels; without them it learns slower (docs/training.md).
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
        means = self._means(pixels)
        logits = self._logits(means)
        loss = _cross_entropy(logits.sum(dim=1), labels)
        for part, name in enumerate(PARTS):
            loss = loss + PART_LABEL_WEIGHTS[name] * _cross_entropy(logits[:, part], labels)
        guesses = torch.stack([head(means[:, part]) for part, head in enumerate(self.components)], dim=1)
        targets = components.clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)[:, None]
        loss = loss + LANDMARK_WEIGHT * (guesses.float() - targets).square().mean()
        return loss, (logits.sum(dim=1).argmax(dim=1) == labels).float().mean()

    def predict(self, pixels: Tensor) -> Tensor:
        """Labels (images,) of pixels (images, 3 parts, 3, 64, 64)."""
        return self._logits(self._means(pixels)).sum(dim=1).argmax(dim=1)

    def _means(self, pixels: Tensor) -> Tensor:
        maps = self.encoder(pixels.flatten(0, 1))
        means: Tensor = self.dropout(maps.mean(dim=(-2, -1)).unflatten(0, (-1, PART_COUNT)))
        return means

    def _logits(self, means: Tensor) -> Tensor:
        logits = [head(means[:, part]).float() for part, head in enumerate(self.labels)]
        return torch.stack(logits, dim=1)


class EpisodeObjective(nn.Module):
    """The paper's objective, done right: every class against every query, prototypes included.

    The sum over face, eyes and lips of the mean squared error of their relation scores, plus 0.7
    times that of the selected prototypes, against 1 for the query's class and 0 otherwise. A cosine
    module's scores add theirs; they reach only its own two parameters.
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

    def forward(self, pixels: Tensor, shot: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of episodes: pixels (episodes, way, shot + query, 3 parts, 3, 64, 64)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            maps = self.network.encode(pixels)
        _, way, images = maps.shape[:3]
        scores = score_episodes(self.network, maps[:, :, :shot], maps[:, :, shot:].flatten(1, 2))
        truth = torch.eye(way, device=maps.device).repeat_interleave(images - shot, dim=0)
        best = scores.class_parts()[..., : PART_COUNT + 1].mean(dim=-1).argmax(dim=-1)
        right = (best == truth.argmax(dim=-1)).float().mean()
        return self._loss(scores, truth), right

    def _loss(self, scores: EpisodeScores, truth: Tensor) -> Tensor:
        weights = PartWeights()
        errors = (scores.pairs.float() - truth[:, :, None, None]).square().mean(dim=(0, 1, 2, 3))
        loss = errors @ errors.new_tensor([weights.face, weights.eyes, weights.lips])
        loss = loss + weights.prototype * (scores.prototypes.float() - truth).square().mean()
        if scores.cosines is not None:
            loss = loss + (scores.cosines - truth).square().mean()
        return loss


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
