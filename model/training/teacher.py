"""What a larger network says of the training images: the targets of distillation."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.checkpoint import Checkpoint
from model.errors import CheckpointInvalid
from model.training.prepared import PreparedImages

AT_ONCE = 128


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherTargets:
    """A teacher's answers for each image; second dimension: as seen, in a mirror."""

    maps: npt.NDArray[np.float16]
    """(images, 2, 3 parts, C) standardised spatial means of its feature maps"""
    shares: dict[str, npt.NDArray[np.float32]]
    """(images, 2, classes) predicted shares of the labels, and of the votes; empty where `share` is 0"""
    share: float
    """How much of a soft target is the teacher's prediction; the rest is what the annotators said"""

    def add_to(
        self,
        targets: dict[str, Tensor],
        chosen: npt.NDArray[np.int64],
        mirrored: npt.NDArray[np.int64],
    ) -> dict[str, Tensor]:
        """The targets of the chosen images, mixed with the teacher's shares, and its maps as `teacher`.

        An image without enough votes has the teacher's prediction alone.
        """
        mixed = {**targets, "teacher": torch.from_numpy(self.maps[chosen, mirrored]).float()}
        for name, shares in self.shares.items():
            said = torch.from_numpy(shares[chosen, mirrored])
            known = targets[name].sum(dim=1, keepdim=True) > 0
            mixed[name] = torch.where(known, torch.lerp(targets[name], said, self.share), said)
        return mixed


def require_teacher_of(teacher: Checkpoint, classes: tuple[str, ...]) -> None:
    """Raises: CheckpointInvalid if it cannot teach, or was trained on other classes than these."""
    if teacher.network.pooled is None or teacher.network.votes is None:
        raise CheckpointInvalid("a published checkpoint cannot teach: train a larger one first")
    if (taught := tuple(teacher.provenance.recipe.get("classes", ()))) != classes:
        raise CheckpointInvalid(
            f"the teacher was trained on {', '.join(taught) or 'unknown classes'}, "
            f"this training is on {', '.join(classes)}: both need the same classes in the same order"
        )


@torch.inference_mode()
def describe_by_teacher(
    teacher: Checkpoint, images: PreparedImages, counts: dict[str, int], *, share: float
) -> TeacherTargets:
    """A teacher's targets for images.

    The teacher sees each image unaltered, the student sees it augmented (a fixed teacher: Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022, compare the two).

    Args:
        teacher: one that `require_teacher_of` has accepted.
        counts: how many classes the labels have, and the votes, where the images have votes.
        share: how much of a soft target is the teacher's prediction.

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
    for start in range(0, len(images), AT_ONCE):
        stored = torch.from_numpy(images.patches(slice(start, start + AT_ONCE), layout))
        pixels = stored.to(device).permute(0, 1, 4, 2, 3).float() / 255
        seen = torch.stack([pixels, pixels.flip(-1)], dim=1)
        with torch.autocast(device.type, torch.bfloat16):
            maps = network.encode(seen)
        pooled.append(network.pooled(maps).half().cpu().numpy())
        shares.append(network.votes(maps).square().cpu().numpy())
    by_kind = np.split(np.concatenate(shares), np.cumsum(network.votes.counts)[:-1], axis=-1)
    return TeacherTargets(
        maps=np.concatenate(pooled),
        shares=dict(zip(counts, by_kind, strict=True)) if share else {},
        share=share,
    )
