"""What a larger network says of the training images: the target of distillation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from model.checkpoint import Checkpoint
from model.errors import CheckpointInvalid
from model.training.prepared import PreparedImages

AT_ONCE = 128


def require_teacher_of(teacher: Checkpoint, classes: tuple[str, ...]) -> None:
    """Raises: CheckpointInvalid if it cannot teach, or has seen other classes than these."""
    if teacher.network.pooled is None:
        raise CheckpointInvalid("a published checkpoint cannot teach: train a larger one first")
    if others := sorted(set(teacher.provenance.recipe.get("classes", ())) - set(classes)):
        raise CheckpointInvalid(
            f"the teacher was trained on {', '.join(others)}, which the classes of this training leave out"
        )


@torch.inference_mode()
def describe_by_teacher(teacher: Checkpoint, images: PreparedImages) -> npt.NDArray[np.float16]:
    """Standardised spatial means of the teacher's maps, (images, 2, 3 parts, C): as seen, in a mirror.

    The teacher sees each image unaltered, the student sees it augmented (a fixed teacher: Beyer et al.,
    "Knowledge distillation: A good teacher is patient and consistent", CVPR 2022, compare the two).

    Args: teacher, that `require_teacher_of` has accepted.
    """
    network, layout = teacher.network, teacher.config.patches
    assert network.pooled is not None
    device = network.pooled.mean.device
    said = []
    for start in range(0, len(images), AT_ONCE):
        stored = torch.from_numpy(images.patches(slice(start, start + AT_ONCE), layout))
        pixels = stored.to(device).permute(0, 1, 4, 2, 3).float() / 255
        seen = torch.stack([pixels, pixels.flip(-1)], dim=1)
        with torch.autocast(device.type, torch.bfloat16):
            maps = network.encode(seen)
        said.append(network.pooled(maps).half().cpu().numpy())
    found: npt.NDArray[np.float16] = np.concatenate(said)
    return found
