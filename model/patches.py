"""Cut the face, eye and lip patches of one face.

Each patch is a square of the image, turned so that the eyes lie level, brought to PATCH_SIZE_PX with
anti-aliasing. Squares keep the aspect ratio: boxes stretched to a square were measured to make the
eye and lip patches worthless (DESIGN section 2). Outside the image the edge pixels are repeated.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import numpy.typing as npt

from model.images import RGBImage
from model.landmarks import Landmarks, Points

PARTS = ("face", "eyes", "lips")
PATCH_SIZE_PX = 64

Patches = npt.NDArray[np.uint8]
"""(3 parts, 64, 64, 3 channels) uint8, parts in the order of PARTS."""

# FaceMesh indices of the canonical face model; right and left are the subject's.
RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER = 33, 133, 362, 263
MOUTH_RIGHT, MOUTH_LEFT, LIP_TOP, LIP_BOTTOM = 61, 291, 0, 17

FACE_SIDE_PER_EXTENT = 1.15
EYES_SIDE_PER_SPAN = 1.4
LIPS_SIDE_PER_MOUTH_WIDTH = 2.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square:
    """A turned square region of an image; angle_rad is the direction of its upper edge."""

    center_px: tuple[float, float]
    side_px: float
    angle_rad: float

    @property
    def corners_px(self) -> list[tuple[float, float]]:
        """Upper left, upper right, lower right and lower left, as the face sees it."""
        x, y = self.center_px
        across_x, across_y = (
            math.cos(self.angle_rad) * self.side_px / 2,
            math.sin(self.angle_rad) * self.side_px / 2,
        )
        return [
            (x + right * across_x - down * across_y, y + right * across_y + down * across_x)
            for right, down in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]


def face_regions(points_px: Points) -> tuple[Square, Square, Square]:
    """Regions of the face, the eyes and the lips, from (468, 2) landmarks in pixels."""
    right_eye, left_eye = points_px[RIGHT_EYE_OUTER], points_px[LEFT_EYE_OUTER]
    dx, dy = (left_eye - right_eye).tolist()
    angle = math.atan2(dy, dx)
    across = np.array([math.cos(angle), math.sin(angle)])
    down = np.array([-math.sin(angle), math.cos(angle)])

    levelled = np.stack([points_px @ across, points_px @ down], axis=1)
    low, high = levelled.min(axis=0), levelled.max(axis=0)
    middle = (low + high) / 2
    face_side = max(float((high - low).max()) * FACE_SIDE_PER_EXTENT, 1.0)

    eye_corners = [RIGHT_EYE_OUTER, RIGHT_EYE_INNER, LEFT_EYE_INNER, LEFT_EYE_OUTER]
    eye_span = math.hypot(dx, dy)
    mouth_width = float(np.linalg.norm(points_px[MOUTH_LEFT] - points_px[MOUTH_RIGHT]))
    mouth = [MOUTH_RIGHT, MOUTH_LEFT, LIP_TOP, LIP_BOTTOM]

    def square(center: npt.NDArray[np.floating], side: float) -> Square:
        # In profile, spans shrink towards zero; a floor keeps the region a region.
        side = max(side, 0.2 * face_side)
        return Square(center_px=(float(center[0]), float(center[1])), side_px=side, angle_rad=angle)

    return (
        square(middle[0] * across + middle[1] * down, face_side),
        square(points_px[eye_corners].mean(axis=0), eye_span * EYES_SIDE_PER_SPAN),
        square(points_px[mouth].mean(axis=0), mouth_width * LIPS_SIDE_PER_MOUTH_WIDTH),
    )


def cut_patches(image: RGBImage, landmarks: Landmarks) -> Patches:
    """The three patches of a face: (3 parts, 64, 64, 3) uint8."""
    return np.stack([cut_square(image, region) for region in face_regions(landmarks.points_px)])


def cut_square(image: RGBImage, square: Square, *, size_px: int = PATCH_SIZE_PX) -> npt.NDArray[np.uint8]:
    """Resample a turned square of (height, width, 3) uint8 to (size_px, size_px, 3) uint8.

    Where the square is larger than the patch, the image around it is first reduced by averaging whole
    blocks of pixels to about the patch's scale, so that no detail aliases; the rest is a bilinear warp.
    """
    step = square.side_px / size_px
    cos, sin = math.cos(square.angle_rad) * step, math.sin(square.angle_rad) * step
    half = (size_px - 1) / 2
    # Patch pixel index to image pixel index; landmarks count from pixel edges, indices from centres.
    to_image = np.array(
        [
            [cos, -sin, square.center_px[0] - 0.5 - half * cos + half * sin],
            [sin, cos, square.center_px[1] - 0.5 - half * sin - half * cos],
        ]
    )
    if (block := round(step)) > 1:
        image, to_image = _reduce(image, to_image, square, block)
    return cv2.warpAffine(  # type: ignore[return-value]
        image,
        to_image,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _reduce(
    image: RGBImage, to_image: npt.NDArray[np.float64], square: Square, block: int
) -> tuple[RGBImage, npt.NDArray[np.float64]]:
    """Average blocks of block x block pixels where the square lies; return that with its new transform.

    Whole blocks, because averaging by another factor takes four times as long (docs/performance.md).
    """
    height, width = image.shape[:2]
    reach = square.side_px * math.sqrt(0.5) + 2 * block

    def covered(center: float, side: int) -> tuple[int, int]:
        """First pixel and number of blocks along one side."""
        first = min(max(math.floor(center - reach), 0), max(side - block, 0))
        return first, max((min(math.ceil(center + reach), side) - first) // block, 1)

    left, columns = covered(square.center_px[0], width)
    top, rows = covered(square.center_px[1], height)
    part = image[top : top + rows * block, left : left + columns * block]
    reduced = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    moved = to_image.copy()
    moved[:, 2:] += 0.5 - np.array([[left], [top]])
    moved /= block
    moved[:, 2:] -= 0.5
    return reduced, moved  # type: ignore[return-value]
