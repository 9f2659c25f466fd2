"""Warps of a face: a spline through moved landmarks, an eye that closes, and a mouth that opens.

A spline is continuous, so it cannot cover or uncover the area between two lids or two lips. The warps of eyes
and mouth use coordinates of that slit in pixels: `along` it, and `across` it towards the chin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

from model.vision.images import RGBImage
from model.vision.landmarks import Points

Floats = npt.NDArray[np.float64]
SourceMap = npt.NDArray[np.float32]
"""(height, width, 2) float32: the point (x, y) of the source image that each pixel is copied from"""

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
FIXED = [
    *(1, 4, 6, 168, 33, 133, 362, 263, 145, 374, 10, 338),
    *(109, 234, 454, 127, 356, 93, 323, 129, 358),
]
"""Landmarks that keep their position unless they are shifted explicitly"""
LASHES = 0.35
"""Distance that the lash line reaches beyond the eye opening, in openings"""


def source_map(width: int, height: int, points: Points, shifts_px: Mapping[int, Floats]) -> SourceMap:
    """The spline that shifts landmarks by (x, y) pixels and holds the FIXED ones and the image's border."""
    grid = pixel_grid(width, height)
    if not shifts_px:
        return grid.astype(np.float32)
    fixed = [index for index in FIXED if index not in shifts_px]
    border = [(x, y) for x in (0, width / 2, width) for y in (0, height / 2, height)]
    border.remove((width / 2, height / 2))
    shifts = np.array(list(shifts_px.values()))
    spline = RBFInterpolator(
        np.concatenate([points[fixed], np.array(border), points[list(shifts_px)] + shifts]),
        np.concatenate([np.zeros((len(fixed) + len(border), 2)), shifts]),
        kernel="thin_plate_spline",
        smoothing=20,
    )
    shift = spline(grid.reshape(-1, 2)).reshape(height, width, 2)
    return (grid - shift).astype(np.float32)  # type: ignore[no-any-return]


def pixel_grid(width: int, height: int) -> npt.NDArray[np.int64]:
    """(height, width, 2): the x and y of each pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)


def resample(image: npt.NDArray[Any], source: SourceMap, interpolation: int) -> npt.NDArray[Any]:
    """Warp an image with a source map, or an earlier source map, so that pixels are resampled once."""
    return cv2.remap(image, source[..., 0], source[..., 1], interpolation, borderMode=cv2.BORDER_REPLICATE)


def carried(points: Points, source: SourceMap) -> Points:
    """The positions (468, 2) of landmarks after a warp."""
    target = points.copy()
    for _ in range(8):
        target = target + points - resample(source, target[:, None], cv2.INTER_LINEAR)[:, 0]
    return target


class Slit:
    """The pixels of an image in the frame of one slit, and its two edges."""

    def __init__(self, width: int, height: int, points: Points, upper: list[int], lower: list[int]) -> None:
        """upper, lower: the landmarks of the edges, which share their first and their last one."""
        first = points[upper[0]]
        dx, dy = np.asarray(points[upper[-1]] - first, dtype=np.float64)
        self.length_px = max(float(np.hypot(dx, dy)), 1.0)
        self._origin_px = np.asarray(first, dtype=np.float64)
        self._turn = np.array([[dx, -dy], [dy, dx]]) / self.length_px
        self.points = (points.astype(np.float64) - self._origin_px) @ self._turn
        local = (pixel_grid(width, height).astype(np.float64) - self._origin_px) @ self._turn
        self.along, self.across = local[..., 0], local[..., 1]
        self.share = self.along / self.length_px
        self.arch = np.sqrt(np.clip(4 * self.share * (1 - self.share), 0, 1))
        """0 at both ends of the slit and 1 in its middle"""
        self.beside = (self.along > 0) & (self.along < self.length_px)
        self.upper, self.lower = self.curve(upper), self.curve(lower)

    def curve(self, indices: list[int]) -> Floats:
        """The `across` of the line through landmarks, above or below each pixel; constant beyond its ends."""
        line = self.points[indices]
        line = line[np.argsort(line[:, 0])]
        return np.interp(self.along, line[:, 0], line[:, 1])

    def source(self, across: Floats) -> SourceMap:
        """The warp that copies each pixel from another place `across` the slit."""
        image: Floats = np.stack([self.along, across], axis=-1) @ self._turn.T + self._origin_px
        return image.astype(np.float32)


def close_eye(width: int, height: int, points: Points, side: str) -> tuple[SourceMap, Floats]:
    """Stretch the skin between brow and lid down over the eye.

    Returns: the warp, and a factor (height, width, 1) for each pixel, below 1 where lashes darken it.
    """
    slit = Slit(width, height, points, UPPER_LID[side], LOWER_LID[side])
    upper, lower, across = slit.upper, slit.lower, slit.across
    opening = np.maximum(lower - upper, 0)
    brow = np.minimum(slit.curve(LOWER_BROW[side]), upper - 0.15 * slit.length_px * slit.arch)
    brow = np.minimum(brow, upper - 1)
    cheek = lower + 0.4 * slit.length_px
    seam = upper + opening + 0.03 * slit.length_px * slit.arch
    # Landmarks miss the lids by about a pixel, so the visible skin starts at a distance from the lashes.
    lid_edge = upper - (LASHES * opening.max() * 0.5 + 1) * np.minimum(slit.arch * 1.5, 1)
    lid_edge = np.maximum(lid_edge, brow + 0.3 * (upper - brow))
    cheek_edge = lower + (0.15 * opening.max() + 1) * slit.arch

    # From brow to seam the skin is stretched: least under the brow, most at the edge of the lid.
    stretch = np.clip((seam - brow) / (lid_edge - brow), 1, 1.9)
    down = np.clip((across - brow) / (seam - brow), 0, 1)
    lid = brow + (lid_edge - brow) * (stretch * down + (1 - stretch) * down**2)
    down = np.clip((across - seam) / (cheek - seam), 0, 1)
    below = cheek_edge + (cheek - cheek_edge) * down
    inside = slit.beside & (across > brow) & (across < cheek)
    source = np.where(inside, np.where(across < seam, lid, below), across)

    width_px = 0.045 * slit.length_px
    distance = (across - seam) / np.where(across < seam, width_px, width_px * 0.8)
    lashes = np.exp(-(distance**2) / 2) * np.minimum(1.6 * slit.arch**2, 1)
    light = 1 - 0.6 * lashes * slit.beside
    return slit.source(source), light[..., None]


def open_mouth(width: int, height: int, points: Points, *, gap_px: float) -> tuple[SourceMap, Floats]:
    """Move the lower lip, the chin and the skin between them down by gap_px.

    Returns: the warp, and the share (height, width, 1) of each pixel that belongs to the cavity.
    """
    slit = Slit(width, height, points, UPPER_INNER_LIP, LOWER_INNER_LIP)
    upper, lower, across = slit.upper, slit.lower, slit.across
    chin = float(slit.points[CHIN, 1]) - float(upper.mean())
    at_lip = gap_px * slit.arch**1.2
    at_chin = gap_px * np.exp(-(((slit.share - 0.5) / 1.1) ** 4))

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
    mouth = slit.beside & (across > upper) & (across < lower + at_lip)
    edge = max(0.06 * slit.length_px, 1.5)
    inner = np.minimum(across - upper, lower + at_lip - across) / edge
    cavity = np.clip(inner, 0, 1) * np.clip(slit.arch * 6, 0, 1) * mouth
    return slit.source(np.where(across > lower, lower + low, across)), cavity[..., None]


def fill_cavity(image: RGBImage, cavity: Floats, points: Points) -> RGBImage:
    """Paint the cavity of the mouth in a dark shade of the lips."""
    rows = np.clip(points[LIP_MIDDLES, 1].round().astype(int), 0, image.shape[0] - 1)
    columns = np.clip(points[LIP_MIDDLES, 0].round().astype(int), 0, image.shape[1] - 1)
    lips = np.median(image[rows, columns], axis=0)
    filled: RGBImage = (image * (1 - cavity) + 0.35 * lips * cavity).astype(np.uint8)
    return filled


def _smooth(share: Floats) -> Floats:
    """A smooth step: 0 at 0 and below, 1 at 1 and above."""
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
