"""Objectives of training: labels, votes and geometry in the warm-up, relation scores in episodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.checkpoint import PartWeights
from model.networks.csrn import CSRN, FaceFeatures
from model.networks.encoders import Conv4Encoder, ResNetEncoder
from model.networks.episode_scores import EpisodeScores, score_episodes
from model.vision.patches import PART_COUNT, PARTS

CLASS_WEIGHTS = {"labels": 0.5, "votes": 1.0}
PART_CLASS_WEIGHTS = {"face": 0.5, "eyes": 0.25, "lips": 0.25}
"""Weight of the cross-entropy of each patch alone, added to that of the three together"""
REGRESSION_WEIGHTS = {"components": 0.3, "blendshapes": 0.3}


class WarmUp(nn.Module):
    """Supervised objective of the encoder.

    From the spatial mean of its feature map, each patch predicts the label, the shares of the annotators'
    votes, the landmark components and the blendshape coefficients of its face, and, with a teacher, the
    spatial mean of the teacher's feature map. The face patch is the most informative and costs a third of the
    work, so only some of a batch's images contribute their eye and lip patches.
    """

    def __init__(
        self, encoder: Conv4Encoder | ResNetEncoder, *, outputs: dict[str, int], maps_weight: float = 1.0
    ) -> None:
        """Build heads for the targets.

        Args:
            outputs: number of values of each target, by name.
            maps_weight: weight of a teacher's feature maps in the loss.
        """
        super().__init__()
        self.encoder = encoder
        self._regression_weights = {**REGRESSION_WEIGHTS, "teacher": maps_weight}
        channels = encoder.feature_shape[0]
        self.dropout = nn.Dropout(0.2)
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleList(nn.Linear(channels, count) for _ in PARTS)
                for name, count in outputs.items()
            }
        )

    def forward(self, patches: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss, and accuracy of the predicted labels.

        Args:
            patches: (images + 2 * whole, 3, size, size): the faces of all images, then the eyes
                and the lips of the first `whole` images.
            targets: (images, ...) as `Targets.of` gives them, and `teacher` (images, 3 parts, channels).
        """
        images = len(targets["labels"])
        whole = (len(patches) - images) // 2
        means = self.dropout(self.encoder(patches).mean(dim=(-2, -1))).split([images, whole, whole])
        predicted = {name: self._predict(name, means) for name in self.heads}
        loss = patches.new_zeros(())
        for name in [name for name in CLASS_WEIGHTS if name in predicted]:
            weight = CLASS_WEIGHTS[name]
            together = torch.stack([of_part[:whole] for of_part in predicted[name]]).sum(dim=0)
            loss = loss + weight * _cross_entropy(together, targets[name])
            for part, logits in zip(PARTS, predicted[name], strict=True):
                loss = loss + weight * PART_CLASS_WEIGHTS[part] * _cross_entropy(logits, targets[name])
        for name in [name for name in self._regression_weights if name in predicted]:
            loss = loss + self._regression_weights[name] * self._error(name, predicted[name], targets)
        labels = torch.stack([of_part[:whole] for of_part in predicted["labels"]]).sum(dim=0).argmax(dim=1)
        return loss, (labels == targets["labels"][:whole].argmax(dim=1)).float().mean()

    def predict(self, pixels: Tensor) -> Tensor:
        """Labels (images,) of pixels (images, 3 parts, 3, size, size)."""
        means = self.encoder(pixels.flatten(0, 1)).mean(dim=(-2, -1)).unflatten(0, pixels.shape[:2])
        return torch.stack(self._predict("labels", list(means.unbind(dim=1)))).sum(dim=0).argmax(dim=1)

    def class_heads(self) -> list[list[nn.Linear]]:
        """The heads of labels and votes, one list per part."""
        kinds = [self.heads[name] for name in CLASS_WEIGHTS if name in self.heads]
        return [list(of_part) for of_part in zip(*kinds, strict=True)]

    def _predict(self, name: str, means: Sequence[Tensor]) -> list[Tensor]:
        """Each part's prediction (images, count) of a target, from its spatial means (images, C)."""
        heads = self.heads[name]
        assert isinstance(heads, nn.ModuleList)
        return [head(mean).float() for head, mean in zip(heads, means, strict=True)]

    def _error(self, name: str, predicted: list[Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Mean squared error of a regression target over the parts."""
        losses = []
        for part, values in enumerate(predicted):
            target = targets[name][: len(values)]
            errors = (values - (target[:, part] if name == "teacher" else target)).square().mean(dim=1)
            if name == "blendshapes":
                errors = errors * targets["has_blendshapes"][: len(values)]
            losses.append(errors.mean())
        return torch.stack(losses).mean()


class EpisodeObjective(nn.Module):
    """The paper's objective, with every class's prototype against every query.

    It is the sum over face, eyes and lips of the mean squared error of their relation scores, plus 0.7
    times that of the selected prototypes. The target is 1 for the query's class and 0 otherwise.
    """

    def __init__(self, network: CSRN, *, freeze_encoder: bool) -> None:
        super().__init__()
        self.network = network
        self.freeze_encoder = freeze_encoder
        network.encoder.requires_grad_(not freeze_encoder)
        for trained_before in (network.votes, network.geometry):
            if trained_before is not None:
                trained_before.requires_grad_(False)

    def train(self, mode: bool = True) -> EpisodeObjective:
        super().train(mode)
        if self.freeze_encoder:
            self.network.encoder.eval()
        return self

    def forward(self, pixels: Tensor, shot: int) -> tuple[Tensor, Tensor]:
        """Loss and accuracy of episodes.

        Args: pixels (episodes, way, shot + query, 3 parts, 3, size, size), supports first.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            maps = self.network.encode(pixels)
        _, way, images = maps.shape[:3]
        scores = score_episodes(
            self.network,
            FaceFeatures(maps=maps[:, :, :shot], blendshapes=None),
            FaceFeatures(maps=maps[:, :, shot:].flatten(1, 2), blendshapes=None),
        )
        truth = torch.eye(way, device=maps.device).repeat_interleave(images - shot, dim=0)
        best = scores.class_parts()[..., : PART_COUNT + 1].mean(dim=-1).argmax(dim=-1)
        return self._loss(scores, truth), (best == truth.argmax(dim=-1)).float().mean()

    def _loss(self, scores: EpisodeScores, truth: Tensor) -> Tensor:
        weights = PartWeights()
        errors = (scores.pairs.float() - truth[:, :, None, None]).square().mean(dim=(0, 1, 2, 3))
        loss = errors @ errors.new_tensor([weights.face, weights.eyes, weights.lips])
        return loss + weights.prototype * (scores.prototypes.float() - truth).square().mean()


def _cross_entropy(logits: Tensor, shares: Tensor) -> Tensor:
    """Mean cross-entropy of logits (n, classes) with the first n rows of shares (images, classes).

    A row is the distribution of an image over the classes. Rows of zeros (nothing is known) do not count.
    """
    shares = shares[: len(logits)]
    losses = -(shares * logits.log_softmax(dim=1)).sum(dim=1)
    return losses.sum() / shares.sum().clamp_min(1)
