"""Augmentation in patch space: a mirrored face stays one face, each patch is moved a little by itself."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

MAX_TURN_RAD = math.radians(12)
MAX_SCALE_CHANGE = 0.12
MAX_SHIFT = 0.08
"""Share of the patch's side"""
MAX_CONTRAST_CHANGE = 0.35
MAX_BRIGHTNESS_CHANGE = 0.2


def augment(patches: npt.NDArray[np.uint8], generator: torch.Generator) -> Tensor:
    """Patches (images, 3 parts, 64, 64, 3) uint8 to (images, 3 parts, 3, 64, 64) float in [0, 1].

    Half of the images are mirrored, all parts alike, so that eyes and lips stay of the same face;
    light and contrast change per image; turn, scale and shift per patch.
    """
    images, parts = patches.shape[:2]

    def uniform(*shape: int, reach: float) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * reach

    pixels = torch.from_numpy(patches).permute(0, 1, 4, 2, 3).float() / 255
    turn = uniform(images, parts, reach=MAX_TURN_RAD)
    scale = 1 + uniform(images, parts, reach=MAX_SCALE_CHANGE)
    shift = uniform(images, parts, 2, reach=2 * MAX_SHIFT)
    mirror = torch.where(torch.rand(images, 1, generator=generator) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(turn) * scale, torch.sin(turn) * scale
    transform = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift[..., 0]], dim=-1),
            torch.stack([sin * mirror, cos, shift[..., 1]], dim=-1),
        ],
        dim=-2,
    ).flatten(0, 1)
    flat = pixels.flatten(0, 1)
    grid = nn.functional.affine_grid(transform, list(flat.shape), align_corners=False)
    moved = nn.functional.grid_sample(
        flat, grid, mode="bilinear", padding_mode="border", align_corners=False
    ).reshape(pixels.shape)
    contrast = 1 + uniform(images, 1, 1, 1, 1, reach=MAX_CONTRAST_CHANGE)
    brightness = uniform(images, 1, 1, 1, 1, reach=MAX_BRIGHTNESS_CHANGE)
    return ((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
