"""Augmentation in patch space: a mirrored face stays one face, patches are moved and lit in small groups."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

GROUP_PATCHES = 12
"""Patches that share one draw of the transforms: drawn for each patch alone they would cost more than the
network's training step"""


def build_transforms(size_px: int) -> v2.Transform:
    """What happens to a group of patches (patches, 1, size, size) float in [0, 1]."""
    margin = size_px // 8
    return v2.Compose(
        [
            # The edge is repeated outwards first, so that no black corner is turned or moved in.
            v2.Pad(margin, padding_mode="edge"),
            v2.RandomAffine(
                degrees=12,
                translate=(0.07, 0.07),
                scale=(0.88, 1.12),
                shear=(-4, 4, -4, 4),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.CenterCrop(size_px),
            # Photos are sharper than FER2013, webcams less sharp.
            v2.RandomChoice(
                [v2.GaussianBlur(3, sigma=(0.3, 1.2)), v2.RandomAdjustSharpness(2.0, p=1.0), v2.Identity()]
            ),
            v2.ColorJitter(brightness=0.3, contrast=0.4),
            v2.RandomApply([v2.GaussianNoise(sigma=0.04)]),
            v2.RandomErasing(p=0.35, scale=(0.02, 0.2), value=0.5),
        ]
    )


def augment(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror, move, light, blur and partly erase patches (images, parts, 1, size, size) float in [0, 1].

    Half of the images are mirrored, all parts alike, so that eyes and lips stay of the same face.

    Returns: patches of the same shape, and (images,) bool, true for the mirrored ones.
    """
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    flat = torch.where(mirrored[:, None, None, None, None], pixels.flip(-1), pixels).flatten(0, 1)
    order = torch.randperm(len(flat), generator=generator)
    transforms = build_transforms(pixels.shape[-1])
    moved = torch.empty_like(flat)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for group in torch.split(order, GROUP_PATCHES):
            moved[group] = transforms(flat[group])
    return moved.reshape(pixels.shape), mirrored
