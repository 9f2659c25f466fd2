"""Move the landmarks of a face, and warp its pixels with a thin-plate spline."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

from model.vision.images import RGBImage
from model.vision.landmarks import Points

Floats = npt.NDArray[np.float64]
SourceMap = npt.NDArray[np.float32]
"""(height, width, 2) float32: the point (x, y) of the source image that each pixel is copied from"""

# FaceMesh indices; right is the subject's, which is the left of the picture.
GROUPS = {
    "right_brow_inner": [107, 55, 66, 65],
    "left_brow_inner": [336, 285, 296, 295],
    "right_brow_outer": [70, 46, 105, 63, 53, 52],
    "left_brow_outer": [300, 276, 334, 293, 283, 282],
    "right_lid": [159, 158, 160],
    "left_lid": [386, 385, 387],
    "right_mouth_corner": [61, 185, 146, 78],
    "left_mouth_corner": [291, 409, 375, 308],
    "upper_lip": [0, 37, 267, 13, 82, 312],
    "lower_lip": [17, 84, 314, 14, 87, 317],
    "chin": [152, 148, 377, 176, 400, 175],
}
FIXED = [
    *(1, 4, 6, 168, 33, 133, 362, 263, 145, 374, 10, 338),
    *(109, 234, 454, 127, 356, 93, 323, 129, 358),
]
"""Landmarks that keep their position unless they are shifted explicitly"""

Moves = Mapping[str, tuple[float, float]]
"""Displacements (right, down) of landmark groups in eye spans, in an upright picture"""


def paired(moves: Moves, groups: Mapping[str, list[int]] = GROUPS) -> dict[str, tuple[float, float]]:
    """Expand displacements (outward, down) of paired groups, such as brows, to the right and left group."""
    expanded: dict[str, tuple[float, float]] = {}
    for group, (x, y) in moves.items():
        if group in groups:
            expanded[group] = (x, y)
        else:
            expanded |= {f"right_{group}": (-x, y), f"left_{group}": (x, y)}
    return expanded


def source_map(width: int, height: int, points: Points, shifts_px: Mapping[int, Floats]) -> SourceMap:
    """The spline that shifts landmarks by (x, y) pixels and holds the FIXED ones and the image's border."""
    fixed = [index for index in FIXED if index not in shifts_px]
    border = [(x, y) for x in (0, width / 2, width) for y in (0, height / 2, height)]
    border.remove((width / 2, height / 2))
    moved = list(shifts_px)
    shifts = np.array(list(shifts_px.values()))
    spline = RBFInterpolator(
        np.concatenate([points[fixed], np.array(border), points[moved] + shifts]),
        np.concatenate([np.zeros((len(fixed) + len(border), 2)), shifts]),
        kernel="thin_plate_spline",
        smoothing=20,
    )
    grid = pixel_grid(width, height)
    shift = spline(grid.reshape(-1, 2)).reshape(height, width, 2)
    return (grid - shift).astype(np.float32)  # type: ignore[no-any-return]


def pixel_grid(width: int, height: int) -> npt.NDArray[np.int64]:
    """(height, width, 2): the x and y of each pixel."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)


def resample(image: RGBImage, source: SourceMap) -> RGBImage:
    """Warp an image with a source map."""
    return cv2.remap(  # type: ignore[return-value]
        image, source[..., 0], source[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def composed(first: SourceMap, second: SourceMap) -> SourceMap:
    """Combine two successive warps in one source map, so that pixels are resampled once."""
    return cv2.remap(  # type: ignore[return-value]
        first, second[..., 0], second[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def carried(points: Points, source: SourceMap) -> Points:
    """The positions (468, 2) of landmarks after a warp."""
    target = points.copy()
    for _ in range(8):
        shown = cv2.remap(
            source,
            target[:, None, 0],
            target[:, None, 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[:, 0]
        target = target + points - shown
    return target
