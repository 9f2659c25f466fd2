"""Geometry of a face: the 52 blendshape coefficients, predicted from its landmarks.

The network learns from MediaPipe's Face Landmarker, whose coefficients say how strong each movement of a
face is (eyeBlinkLeft, jawOpen, mouthSmileRight, ...). FaceMesh finds the landmarks anyway, so geometry costs
almost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.vision.blendshapes import BLENDSHAPE_COUNT
from model.vision.landmarks import LANDMARK_COUNT
from model.vision.patches import LEFT_EYE_OUTER, RIGHT_EYE_OUTER

MAX_DEVIATIONS = 3.0
"""Standardised coefficients are clipped to this distance from their mean"""


def level_points(points: Tensor) -> Tensor:
    """Landmarks (..., 468, 2) with the eyes level, their middle at the origin, and the eye span as unit."""
    right, left = points[..., RIGHT_EYE_OUTER, :], points[..., LEFT_EYE_OUTER, :]
    across = left - right
    span = across.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    cos, sin = (across / span).unbind(dim=-1)
    turn = torch.stack([torch.stack([cos, -sin], dim=-1), torch.stack([sin, cos], dim=-1)], dim=-2)
    levelled: Tensor = (points - ((left + right) / 2)[..., None, :]) @ turn / span[..., None]
    return levelled


class BlendshapeNetwork(nn.Module):
    """Predicts blendshape coefficients in [0, 1] from landmarks.

    Most coefficients are small, so the layers predict their square roots.
    """

    point_mean: Tensor
    point_deviation: Tensor
    root_mean: Tensor
    root_deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("point_mean", torch.zeros(2 * LANDMARK_COUNT))
        self.register_buffer("point_deviation", torch.ones(2 * LANDMARK_COUNT))
        self.register_buffer("root_mean", torch.zeros(BLENDSHAPE_COUNT))
        self.register_buffer("root_deviation", torch.ones(BLENDSHAPE_COUNT))
        self.layers = nn.Sequential(
            nn.Linear(2 * LANDMARK_COUNT, 256),
            nn.ReLU(),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Linear(128, BLENDSHAPE_COUNT),
        )

    def forward(self, points: Tensor) -> Tensor:
        """Coefficients (..., 52) of landmarks (..., 468, 2) in any unit."""
        roots = self.standard_roots(points) * self.root_deviation + self.root_mean
        return roots.clamp(0, 1).square()

    def standard_roots(self, points: Tensor) -> Tensor:
        """Standardised square roots of the coefficients (..., 52) of landmarks (..., 468, 2)."""
        levelled = level_points(points.float()).flatten(-2)
        roots: Tensor = self.layers((levelled - self.point_mean) / self.point_deviation)
        return roots

    def standardise(self, coefficients: Tensor) -> Tensor:
        """Coefficients (..., 52) in the form of `standard_roots`, clipped to MAX_DEVIATIONS."""
        roots = coefficients.clamp_min(0).sqrt()
        return ((roots - self.root_mean) / self.root_deviation).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
