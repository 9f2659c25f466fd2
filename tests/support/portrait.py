"""The portrait from which the project's sample faces are made: scikit-image's `astronaut`."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from model.vision.landmarks import LandmarkFinder, Points


def face_crop() -> tuple[npt.NDArray[np.uint8], Points]:
    """The portrait's head at twice its size, and its landmarks in pixels of that crop."""
    image = np.ascontiguousarray(skimage.data.astronaut())
    (face,) = LandmarkFinder().find(image)
    x_min, y_min, x_max, y_max = face.extent_px
    side = 2 * max(x_max - x_min, y_max - y_min)
    left = max(round((x_min + x_max - side) / 2), 0)
    top = max(round((y_min + y_max - side) / 2), 0)
    crop = image[top : top + round(side), left : left + round(side)]
    crop = cv2.resize(crop, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    points = (face.points_px - (left, top)) * 2
    return crop, points.astype(np.float32)  # type: ignore[return-value]
