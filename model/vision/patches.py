"""Cut the face, eye and lip patches of one face.

Each patch shows a turned rectangle of the image in which the eyes lie level, resampled to a square of
pixels with anti-aliasing. Edge pixels are repeated outside the image. A layout says which rectangles
are cut and how large the patches are. Each checkpoint needs one of the layouts.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from model.vision.images import RGBImage
from model.vision.landmarks import Points

PARTS = ("face", "eyes", "lips")
PART_COUNT = len(PARTS)

LayoutName = Literal["squares", "tight"]

Patches = npt.NDArray[np.uint8]
"""(3 parts, size, size, 3 channels) uint8, parts in the order of PARTS."""

# FaceMesh indices of the canonical face model; right and left are the subject's.
RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER = 33, 133, 362, 263
MOUTH_RIGHT, MOUTH_LEFT, LIP_TOP, LIP_BOTTOM = 61, 291, 0, 17

EYE_CORNERS = [RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER]
MOUTH = [MOUTH_RIGHT, MOUTH_LEFT, LIP_TOP, LIP_BOTTOM]
FACE_SIDE_PER_EXTENT = 1.15
SMALLEST_PER_FACE_SIDE = 0.2
"""Smallest width of a region: in a profile view, eyes and mouth would shrink towards nothing"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Region:
    """A turned rectangle of an image; angle_rad is the direction of its upper edge."""

    center_px: tuple[float, float]
    width_px: float
    height_px: float
    angle_rad: float

    @property
    def corners_px(self) -> list[tuple[float, float]]:
        """Upper left, upper right, lower right and lower left corner, relative to the upright face."""
        x, y = self.center_px
        cos, sin = math.cos(self.angle_rad), math.sin(self.angle_rad)
        return [
            (x + right * cos - down * sin, y + right * sin + down * cos)
            for right, down in (
                (across * self.width_px / 2, along * self.height_px / 2)
                for across, along in ((-1, -1), (1, -1), (1, 1), (-1, 1))
            )
        ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchLayout:
    """The regions that the patches of a face show, and the size of the patches."""

    size_px: int
    """Side of every patch"""
    eyes: tuple[float, float]
    """Width and height of the eye region, in eye spans (distances between the outer corners of the eyes)"""
    eyes_raised: float
    """Height of its middle above the middle of the eye corners, in eye spans"""
    lips: tuple[float, float]
    """Width and height of the lip region, in `lips_unit`"""
    lips_unit: Literal["eye span", "mouth width"]

    def regions(self, points_px: Points) -> tuple[Region, Region, Region]:
        """Regions of the face, the eyes and the lips, from (468, 2) landmarks in pixels."""
        dx, dy = (points_px[LEFT_EYE_OUTER] - points_px[RIGHT_EYE_OUTER]).tolist()
        angle = math.atan2(dy, dx)
        across = np.array([math.cos(angle), math.sin(angle)])
        down = np.array([-math.sin(angle), math.cos(angle)])

        levelled = np.stack([points_px @ across, points_px @ down], axis=1)
        low, high = levelled.min(axis=0), levelled.max(axis=0)
        middle = (low + high) / 2
        face_side = max(float((high - low).max()) * FACE_SIDE_PER_EXTENT, 1.0)
        eye_span = math.hypot(dx, dy)
        mouth_width = float(np.linalg.norm(points_px[MOUTH_LEFT] - points_px[MOUTH_RIGHT]))

        def region(center: npt.NDArray[np.floating], shape: tuple[float, float], unit_px: float) -> Region:
            unit_px = max(unit_px, SMALLEST_PER_FACE_SIDE * face_side / shape[0])
            width, height = (of_side * unit_px for of_side in shape)
            x, y = center.tolist()
            return Region(center_px=(x, y), width_px=width, height_px=height, angle_rad=angle)

        return (
            region(middle[0] * across + middle[1] * down, (1.0, 1.0), face_side),
            region(
                points_px[EYE_CORNERS].mean(axis=0) - down * self.eyes_raised * eye_span, self.eyes, eye_span
            ),
            region(
                points_px[MOUTH].mean(axis=0),
                self.lips,
                eye_span if self.lips_unit == "eye span" else mouth_width,
            ),
        )

    def cut(self, image: RGBImage, points_px: Points) -> Patches:
        """The three patches of a face, (3 parts, size, size, 3) uint8, from its (468, 2) landmarks."""
        return np.stack([cut_region(image, region, self.size_px) for region in self.regions(points_px)])


LAYOUTS: dict[LayoutName, PatchLayout] = {
    # The published checkpoints were trained on these; the eye square reaches from the brows to the mouth.
    "squares": PatchLayout(
        size_px=64, eyes=(1.4, 1.4), eyes_raised=0.0, lips=(2.4, 2.4), lips_unit="mouth width"
    ),
    # Eyes and lips fill their patches. Lips are measured in eye spans, so a smile looks wide.
    "tight": PatchLayout(
        size_px=48, eyes=(1.4, 0.8), eyes_raised=0.06, lips=(1.2, 0.8), lips_unit="eye span"
    ),
}


def cut_region(image: RGBImage, region: Region, size_px: int) -> npt.NDArray[np.uint8]:
    """Resample a region of (height, width, 3) uint8 to (size_px, size_px, 3) uint8.

    If the region is larger than the patch, whole blocks of pixels are averaged first, down to about the
    patch's scale, to avoid aliasing. A bilinear warp does the rest.
    """
    step_x, step_y = region.width_px / size_px, region.height_px / size_px
    cos, sin = math.cos(region.angle_rad), math.sin(region.angle_rad)
    half = (size_px - 1) / 2
    # Patch pixel index to image pixel index; landmarks count from pixel edges, indices from centres.
    turn = np.array([[cos * step_x, -sin * step_y], [sin * step_x, cos * step_y]])
    start = np.array(region.center_px) - 0.5 - turn @ np.array([half, half])
    to_image = np.concatenate([turn, start[:, None]], axis=1)
    if (block := round(min(step_x, step_y))) > 1:
        image, to_image = _reduce(image, to_image, region, block)
    return cv2.warpAffine(  # type: ignore[return-value]
        image,
        to_image,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _reduce(
    image: RGBImage, to_image: npt.NDArray[np.float64], region: Region, block: int
) -> tuple[RGBImage, npt.NDArray[np.float64]]:
    """Average blocks of block x block pixels around the region; also returns the new transform.

    The blocks are whole because averaging by another factor takes four times as long (docs/performance.md).
    """
    height, width = image.shape[:2]
    reach = math.hypot(region.width_px, region.height_px) / 2 + 2 * block

    def covered(center: float, side: int) -> tuple[int, int]:
        """The first pixel and the number of blocks along one side."""
        first = min(max(math.floor(center - reach), 0), max(side - block, 0))
        return first, max((min(math.ceil(center + reach), side) - first) // block, 1)

    left, columns = covered(region.center_px[0], width)
    top, rows = covered(region.center_px[1], height)
    part = image[top : top + rows * block, left : left + columns * block]
    reduced = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    moved = to_image.copy()
    moved[:, 2:] += 0.5 - np.array([[left], [top]])
    moved /= block
    moved[:, 2:] -= 0.5
    return reduced, moved  # type: ignore[return-value]
