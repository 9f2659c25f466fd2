"""Reads the patches of training images and augments them: mirrors, moves, lights, blurs, erases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from model.networks.encoders import luminance
from model.training.prepared import PreparedImages
from model.vision.patches import LayoutName

GROUP_PATCHES = 12
"""Number of patches that share one draw of the transforms; a draw per patch would take longer than the
network's training step"""


class PatchReader:
    """Reads augmented patches of training images."""

    def __init__(self, images: PreparedImages, *, layout: LayoutName, colour: bool) -> None:
        """colour: False if the encoder sees luminance alone."""
        self._images, self._layout, self._colour = images, layout, colour

    def read(
        self, chosen: npt.NDArray[np.int64], rng: np.random.Generator, *, size_px: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Read and augment the patches of the images with the indices in `chosen`.

        Args: size_px, side of the patches; by default that of the layout.
        Returns: pixels (images, 3 parts, 3, size, size) float, and (images,) bool: whether each image
            is mirrored.
        """
        pixels = pixels_of(self._images.patches(chosen, self._layout))
        if not self._colour:
            # One channel is cheaper to augment than three; it is repeated for the encoder at the end.
            pixels = luminance(pixels)
        if size_px is not None:
            pixels = resize_patches(pixels, size_px)
        moved, mirrored = augment(pixels, torch.Generator().manual_seed(int(rng.integers(2**62))))
        return moved.expand(-1, -1, 3, -1, -1), mirrored


def pixels_of(patches: npt.NDArray[np.uint8]) -> Tensor:
    """Patches (..., size, size, 3) uint8 as pixels (..., 3, size, size) float in [0, 1]."""
    return torch.from_numpy(patches).movedim(-1, -3).float() / 255


def resize_patches(pixels: Tensor, size_px: int) -> Tensor:
    """Resize patches (images, parts, channels, size, size) float with anti-aliasing."""
    if pixels.shape[-1] == size_px:
        return pixels
    small = nn.functional.interpolate(pixels.flatten(0, 1), size=size_px, mode="bilinear", antialias=True)
    return small.reshape(*pixels.shape[:2], *small.shape[1:])


def augment(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment patches (images, parts, 1, size, size) float in [0, 1].

    Half of the images are mirrored, with all their parts, so eyes and lips still belong to the face.

    Returns: patches of the same shape, and (images,) bool, true for mirrored images.
    """
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    flat = torch.where(mirrored[:, None, None, None, None], pixels.flip(-1), pixels).flatten(0, 1)
    order = torch.randperm(len(flat), generator=generator)
    transforms = _transforms(pixels.shape[-1])
    moved = torch.empty_like(flat)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        for group in torch.split(order, GROUP_PATCHES):
            moved[group] = transforms(flat[group])
    return moved.reshape(pixels.shape), mirrored


def _transforms(size_px: int) -> v2.Transform:
    """Random transforms of a group of patches (patches, 1, size, size) float in [0, 1]."""
    sharpness = [v2.GaussianBlur(3, sigma=(0.3, 1.2)), v2.RandomAdjustSharpness(2.0, p=1.0), v2.Identity()]
    return v2.Compose(
        [
            # Edge pixels are repeated outwards first, so that no black corners move into the patch.
            v2.Pad(size_px // 8, padding_mode="edge"),
            v2.RandomAffine(
                degrees=12,
                translate=(0.07, 0.07),
                scale=(0.88, 1.12),
                shear=(-4, 4, -4, 4),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.CenterCrop(size_px),
            # Photos are sharper than FER2013, webcam images less sharp.
            v2.RandomChoice(sharpness),
            v2.ColorJitter(brightness=0.3, contrast=0.4),
            v2.RandomApply([v2.GaussianNoise(sigma=0.04)]),
            v2.RandomErasing(p=0.35, scale=(0.02, 0.2), value=0.5),
        ]
    )
