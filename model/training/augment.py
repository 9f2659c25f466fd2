"""Augmentation in patch space: a mirrored face stays one face, each patch is moved a little by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_TURN_RAD = math.radians(12)
MAX_SCALE_CHANGE = 0.12
MAX_SHIFT = 0.08
"""Share of the patch's side"""
MAX_BLUR, MAX_SHARPENING = 1.0, 0.5
"""Of the difference to a 3x3 mean: photos are sharper than FER2013, webcams less sharp"""
MAX_LOG_GAMMA = 0.4
MAX_CONTRAST_CHANGE = 0.35
MAX_BRIGHTNESS_CHANGE = 0.2
MAX_NOISE = 0.05
ERASED_PATCHES = 0.3
"""Share of the patches of which a square is erased"""
ERASED_REACH_PX = (4, 13)


def augment(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move, light, blur and partly erase patches (images, 3 parts, channels, 64, 64) float in [0, 1].

    Half of the images are mirrored, all parts alike, so that eyes and lips stay of the same face;
    light, blur and noise change per image; turn, scale, shift and erasure per patch.

    Returns: patches of the same shape, and (images,) bool, true for the mirrored ones.
    """
    images = pixels.shape[0]
    mirrored = torch.rand(images, generator=generator) < 0.5
    moved = _moved(pixels, mirrored, generator)
    return _erased(_relit(_blurred(moved, generator), generator), generator), mirrored


def _uniform(*shape: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + torch.rand(shape, generator=generator) * (high - low)


def _moved(pixels: Tensor, mirrored: Tensor, generator: torch.Generator) -> Tensor:
    images, parts = pixels.shape[:2]

    def reach(*shape: int, limit: float) -> Tensor:
        return _uniform(images, parts, *shape, low=-limit, high=limit, generator=generator)

    turn, scale = reach(limit=MAX_TURN_RAD), 1 + reach(limit=MAX_SCALE_CHANGE)
    shift = reach(2, limit=2 * MAX_SHIFT)
    mirror = torch.where(mirrored, -1.0, 1.0)[:, None]
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
    moved = nn.functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved.reshape(pixels.shape)


def _blurred(pixels: Tensor, generator: torch.Generator) -> Tensor:
    share = _uniform(len(pixels), 1, 1, 1, 1, low=-MAX_SHARPENING, high=MAX_BLUR, generator=generator)
    mean = nn.functional.avg_pool2d(
        pixels.flatten(0, 1), kernel_size=3, stride=1, padding=1, count_include_pad=False
    )
    return pixels.lerp(mean.reshape(pixels.shape), share).clamp(0, 1)


def _relit(pixels: Tensor, generator: torch.Generator) -> Tensor:
    def per_image(low: float, high: float) -> Tensor:
        return _uniform(len(pixels), 1, 1, 1, 1, low=low, high=high, generator=generator)

    gamma = per_image(-MAX_LOG_GAMMA, MAX_LOG_GAMMA).exp()
    contrast = 1 + per_image(-MAX_CONTRAST_CHANGE, MAX_CONTRAST_CHANGE)
    brightness = per_image(-MAX_BRIGHTNESS_CHANGE, MAX_BRIGHTNESS_CHANGE)
    lit = ((pixels**gamma - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    return lit + torch.randn(pixels.shape, generator=generator) * per_image(0, MAX_NOISE)


def _erased(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Patches some of which have one square set to their mean."""
    images, parts, _, height, width = pixels.shape
    chosen = torch.rand(images, parts, 1, generator=generator) < ERASED_PATCHES
    reach = torch.randint(*ERASED_REACH_PX, (images, parts, 1), generator=generator)
    rows = torch.randint(height, (images, parts, 1), generator=generator)
    columns = torch.randint(width, (images, parts, 1), generator=generator)
    in_rows = ((torch.arange(height) - rows).abs() < reach) & chosen
    in_columns = (torch.arange(width) - columns).abs() < reach
    square = in_rows[..., :, None] & in_columns[..., None, :]
    return torch.where(square[:, :, None], pixels.mean(dim=(2, 3, 4), keepdim=True), pixels)
