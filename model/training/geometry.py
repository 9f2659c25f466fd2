"""Training of the blendshape network: from landmarks to the coefficients of a teacher that sees the image."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.networks.geometry import BlendshapeNetwork, level_points
from model.training.landmark_components import LandmarkComponents
from model.training.prepared import PreparedImages
from model.training.targets import MIRROR_BLENDSHAPES, blendshapes_of

BATCH = 256
MAX_YAW_RAD, MAX_PITCH_RAD = math.radians(20), math.radians(15)
NOISE_PER_SPAN = 0.006
"""Deviation of the noise on each point, in eye spans; FaceMesh differs by as much between two frames"""


class GeometryBatches:
    """Batches of landmarks with their coefficients; faces are rotated, mirrored and made noisy at random."""

    def __init__(self, images: PreparedImages, components: LandmarkComponents) -> None:
        coefficients, found = blendshapes_of(images)
        self._points = images.landmarks()[found]
        roots = np.sqrt(coefficients[found])
        self._roots = np.stack([roots, roots[:, MIRROR_BLENDSHAPES]], axis=1)
        self._image_of = components.image_of

    def __len__(self) -> int:
        """Number of faces with coefficients."""
        return len(self._points)

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Landmarks (BATCH, 468, 2) in eye spans and square roots of coefficients (BATCH, 52)."""
        chosen = rng.integers(len(self._points), size=BATCH)
        mirrored = rng.integers(2, size=BATCH)
        points = self._points[chosen]
        mirror_images = points[:, self._image_of] * np.array([-1, 1, 1], dtype=np.float32)
        points = np.where(mirrored[:, None, None] == 1, mirror_images, points)
        rotated = torch.from_numpy(_rotated(points, rng))
        noise = torch.from_numpy(rng.standard_normal(rotated.shape, dtype=np.float32))
        roots = torch.from_numpy(self._roots[chosen, mirrored])
        return level_points(rotated) + NOISE_PER_SPAN * noise, roots


class GeometryObjective(nn.Module):
    """Squared error of the standardised square roots of the coefficients."""

    def __init__(self, network: BlendshapeNetwork, batches: GeometryBatches) -> None:
        """Set the network's means and deviations from a few batches."""
        super().__init__()
        self.network = network
        drawn = [batches.draw(np.random.default_rng(index)) for index in range(8)]
        points = torch.cat([points for points, _ in drawn]).flatten(1)
        roots = torch.cat([roots for _, roots in drawn])
        network.point_mean.copy_(points.mean(dim=0))
        network.point_deviation.copy_(points.std(dim=0).clamp_min(1e-3))
        network.root_mean.copy_(roots.mean(dim=0))
        network.root_deviation.copy_(roots.std(dim=0).clamp_min(1e-2))

    def forward(self, points: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, and the explained share of the roots' variance.

        Args: points (faces, 468, 2); roots (faces, 52).
        """
        target = (roots - self.network.root_mean) / self.network.root_deviation
        loss = (self.network.standard_roots(points).float() - target).square().mean()
        return loss, 1 - loss.detach() / target.var()


def _rotated(points: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Rotate points (faces, 468, 3) by a random yaw and pitch, and project them to (faces, 468, 2)."""
    yaw = rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD, (len(points), 1)).astype(np.float32)
    pitch = rng.uniform(-MAX_PITCH_RAD, MAX_PITCH_RAD, (len(points), 1)).astype(np.float32)
    x, y, z = np.moveaxis(points - points.mean(axis=1, keepdims=True), -1, 0)
    across, depth = x * np.cos(yaw) + z * np.sin(yaw), z * np.cos(yaw) - x * np.sin(yaw)
    return np.stack([across, y * np.cos(pitch) - depth * np.sin(pitch)], axis=-1)
