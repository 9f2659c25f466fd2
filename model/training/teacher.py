"""Distillation: the targets that a larger network, the teacher, gives for the training images."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.errors import CheckpointInvalid
from model.networks.csrn import spatial_means
from model.training.patch_reader import pixels_of
from model.training.prepared import PreparedImages

BATCH = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherTargets:
    """A teacher's predictions for each image; the second dimension is the image, then its mirror image."""

    maps: npt.NDArray[np.float16]
    """(images, 2, 3 parts, C) standardised spatial means of its feature maps"""
    shares: dict[str, npt.NDArray[np.float32]]
    """(images, 2, classes) predicted shares of the labels and of the votes; empty if `share` is 0"""
    share: float
    """Weight of the teacher's prediction in a soft target; the annotators' shares have the rest"""

    def add_to(
        self, targets: dict[str, Tensor], chosen: npt.NDArray[np.int64], mirrored: npt.NDArray[np.int64]
    ) -> dict[str, Tensor]:
        """Mix the teacher's shares into the targets of the chosen images, and add its maps as `teacher`.

        For an image without enough votes, the teacher's prediction is used alone.
        """
        mixed = {**targets, "teacher": torch.from_numpy(self.maps[chosen, mirrored]).float()}
        for name, shares in self.shares.items():
            predicted = torch.from_numpy(shares[chosen, mirrored])
            known = targets[name].sum(dim=1, keepdim=True) > 0
            mixed[name] = torch.where(known, torch.lerp(targets[name], predicted, self.share), predicted)
        return mixed


def require_teacher_of(teacher: Checkpoint, classes: tuple[str, ...]) -> None:
    """Raises: CheckpointInvalid if the teacher has no `cosine` or `votes` part, or other classes."""
    if teacher.network.pooled is None or teacher.network.votes is None:
        raise CheckpointInvalid("a published checkpoint cannot teach: train a larger one first")
    if (known := tuple(teacher.provenance.recipe.get("classes", ()))) != classes:
        raise CheckpointInvalid(
            f"the teacher was trained on {', '.join(known) or 'unknown classes'}, "
            f"this training is on {', '.join(classes)}: both need the same classes in the same order"
        )


@torch.inference_mode()
def describe_by_teacher(
    teacher: Checkpoint, images: PreparedImages, counts: dict[str, int], *, share: float
) -> TeacherTargets:
    """Compute a teacher's targets for each image and its mirror image.

    The teacher sees no other augmentation, though the student does. Beyer et al. call this a fixed teacher
    ("Knowledge distillation: A good teacher is patient and consistent", CVPR 2022).

    Args:
        teacher: one that `require_teacher_of` has accepted.
        counts: number of classes for "labels" and, if annotators have voted on the images, for "votes".
        share: weight of the teacher's prediction in a soft target.
    Raises: CheckpointInvalid if the teacher predicts other numbers of classes.
    """
    network, layout = teacher.network, teacher.config.patches
    assert network.pooled is not None
    assert network.votes is not None
    if network.votes.counts != tuple(counts.values()):
        raise CheckpointInvalid(
            f"the teacher predicts {network.votes.counts} classes of labels and votes, "
            f"the images have {tuple(counts.values())}: prepare both from the same data"
        )
    device = network.pooled.mean.device
    pooled, shares = [], []
    for start in range(0, len(images), BATCH):
        pixels = pixels_of(images.patches(slice(start, start + BATCH), layout)).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            maps = network.encode(torch.stack([pixels, pixels.flip(-1)], dim=1))
        means = spatial_means(maps)
        pooled.append(network.pooled(means).half().cpu().numpy())
        shares.append(network.votes(means).square().cpu().numpy())
    by_kind = np.split(np.concatenate(shares), np.cumsum(network.votes.counts)[:-1], axis=-1)
    return TeacherTargets(
        maps=np.concatenate(pooled),
        shares=dict(zip(counts, by_kind, strict=True)) if share else {},
        share=share,
    )
