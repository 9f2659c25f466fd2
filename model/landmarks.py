"""Find faces and their landmarks with MediaPipe FaceMesh. The only module that knows MediaPipe."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.images import RGBImage

LANDMARK_COUNT = 468
EDGE_PADDING = 0.4
"""Share of each side added around an image in which no face was found at first."""

Points = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Landmarks:
    """One face: 468 FaceMesh points in pixels of the image (x right, y down, pixel edges at integers).

    Points may lie outside the image where the face is cut off.
    """

    points_px: Points
    """(468, 2) float32"""
    found_after_padding: bool

    @property
    def extent_px(self) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of the points."""
        (x_min, y_min), (x_max, y_max) = self.points_px.min(axis=0), self.points_px.max(axis=0)
        return float(x_min), float(y_min), float(x_max), float(y_max)

    @property
    def area_px(self) -> float:
        x_min, y_min, x_max, y_max = self.extent_px
        return (x_max - x_min) * (y_max - y_min)


class LandmarkFinder:
    """One FaceMesh instance. Not thread-safe: use one per thread (it releases the GIL while it works)."""

    def __init__(self, *, max_faces: int = 8, min_confidence: float = 0.3) -> None:
        # Imported here because it takes a second, which commands that see no image need not pay.
        from mediapipe.python.solutions.face_mesh import FaceMesh

        self._mesh: Any = FaceMesh(
            static_image_mode=True, max_num_faces=max_faces, min_detection_confidence=min_confidence
        )

    def find(self, image: RGBImage) -> list[Landmarks]:
        """Landmarks of every face, largest first; empty where there is none.

        A face that fills the frame or touches the border is often missed: then the edge pixels are
        repeated outwards by EDGE_PADDING and the search is made once more.
        """
        faces = self._search(image, pad_x=0, pad_y=0)
        if not faces:
            height, width = image.shape[:2]
            faces = self._search(
                image, pad_x=round(width * EDGE_PADDING), pad_y=round(height * EDGE_PADDING)
            )
        return sorted(faces, key=lambda face: face.area_px, reverse=True)

    def close(self) -> None:
        self._mesh.close()

    def _search(self, image: RGBImage, *, pad_x: int, pad_y: int) -> list[Landmarks]:
        padded = bool(pad_x or pad_y)
        if padded:
            image = cv2.copyMakeBorder(image, pad_y, pad_y, pad_x, pad_x, cv2.BORDER_REPLICATE)  # type: ignore[assignment]
        height, width = image.shape[:2]
        found = self._mesh.process(image).multi_face_landmarks or []
        return [
            Landmarks(
                points_px=np.array(
                    [
                        (point.x * width - pad_x, point.y * height - pad_y)
                        for point in face.landmark[:LANDMARK_COUNT]
                    ],
                    dtype=np.float32,
                ),
                found_after_padding=padded,
            )
            for face in found
        ]
