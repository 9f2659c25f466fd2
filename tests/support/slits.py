"""Close an eye and open a mouth: warps that cover or uncover the area between two lids or two lips.

A spline cannot do that, because it is continuous. Both warps use the frame of the slit: `along` it, and
`across` it towards the chin, in pixels.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from model.vision.images import RGBImage
from model.vision.landmarks import Points
from tests.support.warp import Floats, SourceMap, pixel_grid

Side = Literal["right", "left"]

# FaceMesh indices, from the subject's right to the left.
UPPER_LID = {
    "right": [33, 246, 161, 160, 159, 158, 157, 173, 133],
    "left": [362, 398, 384, 385, 386, 387, 388, 466, 263],
}
LOWER_LID = {
    "right": [33, 7, 163, 144, 145, 153, 154, 155, 133],
    "left": [362, 382, 381, 380, 374, 373, 390, 249, 263],
}
LOWER_BROW = {"right": [46, 53, 52, 65, 55], "left": [285, 295, 282, 283, 276]}
UPPER_INNER_LIP = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_INNER_LIP = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]
LIP_MIDDLES = [0, 13, 14, 17]
CHIN = 152

LASHES = 0.35
"""Distance that the lash line reaches beyond the eye opening, in openings"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
    """Axes of one slit: its first corner, and unit vectors along and across it."""

    origin_px: Floats
    turn: Floats
    """(2, 2): its columns are the directions along and across"""
    length_px: float

    @classmethod
    def between(cls, first: npt.NDArray[np.floating], last: npt.NDArray[np.floating]) -> Frame:
        dx, dy = np.asarray(last - first, dtype=np.float64)
        length = max(float(np.hypot(dx, dy)), 1.0)
        return cls(
            origin_px=np.asarray(first, dtype=np.float64),
            turn=np.array([[dx, -dy], [dy, dx]]) / length,
            length_px=length,
        )

    def of(self, points: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> Floats:
        """Convert image coordinates (..., 2) to along and across."""
        local: Floats = (points.astype(np.float64) - self.origin_px) @ self.turn
        return local

    def back(self, local: Floats) -> SourceMap:
        image: Floats = local @ self.turn.T + self.origin_px
        return image.astype(np.float32)

    def curve(self, points: Points, indices: list[int], along: Floats) -> Floats:
        """The `across` of the line through landmarks at each `along`; constant beyond its ends."""
        line = self.of(points[indices])
        line = line[np.argsort(line[:, 0])]
        return np.interp(along, line[:, 0], line[:, 1])


def close_eye(
    width: int, height: int, points: Points, side: Side, *, meets_at: float
) -> tuple[SourceMap, Floats]:
    """Stretch the skin between brow and lid down over the eye.

    meets_at: position where the lids meet, from 0 at the upper lid to 1 at the lower lid.
    Returns: the warp, and the factor (height, width, 1) by which the lashes darken each pixel.
    """
    frame = Frame.between(points[UPPER_LID[side][0]], points[UPPER_LID[side][-1]])
    local = frame.of(pixel_grid(width, height))
    along, across = local[..., 0], local[..., 1]
    upper = frame.curve(points, UPPER_LID[side], along)
    lower = frame.curve(points, LOWER_LID[side], along)
    opening = np.maximum(lower - upper, 0)
    bulge = _arch(along / frame.length_px)
    brow = np.minimum(frame.curve(points, LOWER_BROW[side], along), upper - 0.15 * frame.length_px * bulge)
    brow = np.minimum(brow, upper - 1)
    cheek = lower + 0.4 * frame.length_px
    seam = upper + meets_at * opening + 0.03 * frame.length_px * bulge
    # Landmarks miss the lids by about a pixel, so the visible skin starts at a distance from the lashes.
    lid_edge = upper - (LASHES * opening.max() * 0.5 + 1) * np.minimum(bulge * 1.5, 1)
    lid_edge = np.maximum(lid_edge, brow + 0.3 * (upper - brow))
    cheek_edge = lower + (0.15 * opening.max() + 1) * bulge

    # From brow to seam the skin is stretched: least under the brow, most at the edge of the lid.
    stretch = np.clip((seam - brow) / (lid_edge - brow), 1, 1.9)
    down = np.clip((across - brow) / (seam - brow), 0, 1)
    lid = brow + (lid_edge - brow) * (stretch * down + (1 - stretch) * down**2)
    down = np.clip((across - seam) / (cheek - seam), 0, 1)
    below = cheek_edge + (cheek - cheek_edge) * down
    inside = (along > 0) & (along < frame.length_px) & (across > brow) & (across < cheek)
    source = np.where(inside, np.where(across < seam, lid, below), across)

    width_px = 0.045 * frame.length_px
    distance = (across - seam) / np.where(across < seam, width_px, width_px * 0.8)
    lashes = np.exp(-(distance**2) / 2) * np.minimum(1.6 * bulge**2, 1)
    light = 1 - 0.6 * lashes * ((along > 0) & (along < frame.length_px))
    return frame.back(np.stack([along, source], axis=-1)), light[..., None]


def open_mouth(width: int, height: int, points: Points, *, gap_px: float) -> tuple[SourceMap, Floats]:
    """Move the lower lip, the chin and the skin between them down by gap_px.

    Returns: the warp, and the share (height, width, 1) of each pixel that belongs to the cavity.
    """
    first, last = points[UPPER_INNER_LIP[0]], points[UPPER_INNER_LIP[-1]]
    frame = Frame.between(first, last)
    local = frame.of(pixel_grid(width, height))
    along, across = local[..., 0], local[..., 1]
    upper = frame.curve(points, UPPER_INNER_LIP, along)
    lower = frame.curve(points, LOWER_INNER_LIP, along)
    middle = along / frame.length_px
    chin = float(frame.of(points[CHIN])[1]) - float(upper.mean())
    at_lip = gap_px * _arch(middle) ** 1.2
    at_chin = gap_px * np.exp(-(((middle - 0.5) / 1.1) ** 4))

    def shift(depth: Floats) -> Floats:
        """The distance that skin moves, from its depth below the mouth line in pixels."""
        share = _smooth(depth / chin)
        held = 1 - _smooth((depth - 1.1 * chin) / (4 * gap_px + 1))
        moved: Floats = (at_lip + (at_chin - at_lip) * share) * held
        return moved

    depth = across - lower
    low, high = np.zeros_like(depth), np.maximum(depth, 0)
    for _ in range(20):  # bisects for source + shift(source) = depth, which grows with source
        source = (low + high) / 2
        too_deep = source + shift(source) > depth
        low, high = np.where(too_deep, low, source), np.where(too_deep, source, high)
    below = lower + low
    mouth = (along > 0) & (along < frame.length_px) & (across > upper) & (across < lower + at_lip)
    edge = max(0.06 * frame.length_px, 1.5)
    inner = np.minimum(across - upper, lower + at_lip - across) / edge
    cavity = np.clip(inner, 0, 1) * np.clip(_arch(middle) * 6, 0, 1) * mouth
    shown = np.where(across > lower, below, across)
    return frame.back(np.stack([along, shown], axis=-1)), cavity[..., None]


def fill_cavity(image: RGBImage, cavity: Floats, points: Points) -> RGBImage:
    """Paint the cavity of the mouth in a dark shade of the lips."""
    rows = np.clip(points[LIP_MIDDLES, 1].round().astype(int), 0, image.shape[0] - 1)
    columns = np.clip(points[LIP_MIDDLES, 0].round().astype(int), 0, image.shape[1] - 1)
    lips = np.median(image[rows, columns], axis=0)
    filled: RGBImage = (image * (1 - cavity) + 0.35 * lips * cavity).astype(np.uint8)
    return filled


def _arch(share: Floats) -> Floats:
    """0 at both ends of a slit and 1 in its middle."""
    arch: Floats = np.sqrt(np.clip(4 * share * (1 - share), 0, 1))
    return arch


def _smooth(share: Floats) -> Floats:
    """A smooth step from 0 at 0 to 1 at 1."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
