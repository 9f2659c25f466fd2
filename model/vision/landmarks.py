"""Find faces and their landmarks with MediaPipe FaceMesh."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.vision.images import RGBImage
from model.vision.mediapipe_graph import open_graph

LANDMARK_COUNT = 468
EDGE_PADDING = 0.4
"""Share of each side that is added around an image if the first search finds no face"""
CROP_PER_FACE = 2.0
"""Side of the square that is searched around a place, in sides of the face that may be there"""
PADDED_SEARCH_PX = 720
"""A larger image is reduced to this side for the second search, because the padded image is held twice.

The detector finds faces of at least a tenth of the padded side: 130 px here. FaceMesh needs no more."""

DETECTION_SCORE_PARAMETER = (
    "facedetectionshortrangecpu__facedetectionshortrange__facedetection__TensorsToDetectionsCalculator"
    ".min_score_thresh"
)
"""The parameter of FaceMesh's graph that says how sure its detector must be of a face, from 0 to 1"""
TRACKING_SCORE_PARAMETER = "facelandmarkcpu__ThresholdingCalculator.threshold"
"""The parameter of FaceMesh's graph that says how sure its landmark network must be of a face, from 0 to 1"""

Points = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Landmarks:
    """One face: 468 FaceMesh points in pixels of the image (x right, y down, pixel edges at integers).

    Points may lie outside the image where the face is cut off.
    """

    points_px: Points
    """(468, 2) float32"""
    depths_px: npt.NDArray[np.float32]
    """(468,) float32: distance of each point behind the middle of the head, roughly in pixels"""
    found_after_padding: bool

    @functools.cached_property
    def extent_px(self) -> tuple[float, float, float, float]:
        """Bounds of the points: x_min, y_min, x_max, y_max."""
        (x_min, y_min), (x_max, y_max) = self.points_px.min(axis=0), self.points_px.max(axis=0)
        return float(x_min), float(y_min), float(x_max), float(y_max)

    @property
    def side_px(self) -> float:
        """The longer side of the extent."""
        x_min, y_min, x_max, y_max = self.extent_px
        return max(x_max - x_min, y_max - y_min)

    @property
    def middle_px(self) -> tuple[float, float]:
        """The middle of the extent: x, y."""
        x_min, y_min, x_max, y_max = self.extent_px
        return (x_min + x_max) / 2, (y_min + y_max) / 2

    def contains(self, x: float, y: float) -> bool:
        """Whether a place lies within the extent."""
        x_min, y_min, x_max, y_max = self.extent_px
        return x_min <= x <= x_max and y_min <= y <= y_max

    def enlarged(self, factor: float) -> Landmarks:
        """The same face in an image that is larger by a factor."""
        return Landmarks(
            points_px=self.points_px * np.float32(factor),
            depths_px=self.depths_px * np.float32(factor),
            found_after_padding=self.found_after_padding,
        )

    def moved(self, x: float, y: float) -> Landmarks:
        """The same face in an image that begins further left by x and further up by y."""
        return dataclasses.replace(self, points_px=self.points_px + np.array([x, y], dtype=np.float32))

    @property
    def area_px(self) -> float:
        x_min, y_min, x_max, y_max = self.extent_px
        return (x_max - x_min) * (y_max - y_min)


class LandmarkFinder:
    """One FaceMesh instance. Not thread-safe: use one per thread. It starts no threads of its own."""

    def __init__(self, *, tracking: bool = False) -> None:
        """tracking: images are frames of one video; each search starts at the one face of the last frame."""
        self._tracking = tracking
        with muted_native_log():
            self._mesh = open_graph(
                "modules/face_landmark/face_landmark_front_cpu.binarypb",
                side_inputs={
                    "num_faces": 1 if tracking else 8,
                    "with_attention": False,
                    "use_prev_landmarks": tracking,
                },
                calculator_params={DETECTION_SCORE_PARAMETER: 0.3, TRACKING_SCORE_PARAMETER: 0.5},
                outputs=["multi_face_landmarks"],
            )
            # The first image makes FaceMesh load its models.
            self._mesh.process(np.zeros((64, 64, 3), dtype=np.uint8))
        self._unused = True

    def find(self, image: RGBImage) -> list[Landmarks]:
        """Landmarks of every face, largest first; empty if no face is found.

        FaceMesh often misses a face that fills the frame or touches the border. So if the first search fails,
        the edge pixels are repeated outwards by EDGE_PADDING and a second search is made. Tracking makes one
        search only, because padding would shift the position that it remembers.
        """
        faces = self._search(image, padding=0.0)
        if not faces and not self._tracking:
            scale = min(PADDED_SEARCH_PX / max(image.shape), 1.0)
            smaller = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            found = self._search(np.asarray(smaller, dtype=np.uint8), padding=EDGE_PADDING)
            faces = [face.enlarged(1 / scale) for face in found]
        return sorted(faces, key=lambda face: face.area_px, reverse=True)

    def find_at(self, image: RGBImage, x: float, y: float, side_px: float) -> Landmarks | None:
        """Landmarks of the face around a place; None if FaceMesh finds no face there.

        Args: side_px, about the size of the face. FaceMesh searches a square whose side is CROP_PER_FACE
            times as long.
        """
        left, top, crop = crop_around(image, x, y, side_px)
        if not crop.size:
            return None
        faces = [face.moved(left, top) for face in self._search(crop, padding=0.0)]
        return next((face for face in faces if face.contains(x, y)), None)

    def close(self) -> None:
        self._mesh.close()

    def _search(self, image: RGBImage, *, padding: float) -> list[Landmarks]:
        height, width = image.shape[:2]
        pad_x, pad_y = round(width * padding), round(height * padding)
        # The image is padded to a square, because FaceMesh misplaces the landmarks of turned faces in other
        # shapes (a face of 250 px turned by 30 degrees: 3 px off in a 640x256 image, 1 to 2 px in a square).
        side = max(width + 2 * pad_x, height + 2 * pad_y)
        if (height, width) != (side, side):
            image = cv2.copyMakeBorder(  # type: ignore[assignment]
                image,
                pad_y,
                side - height - pad_y,
                pad_x,
                side - width - pad_x,
                cv2.BORDER_REPLICATE if padding else cv2.BORDER_CONSTANT,
            )
        # FaceMesh logs again at its first face. Only the first image is processed with the log muted: the
        # mute blocks all other finders and discards their messages and those of the service.
        with muted_native_log() if self._unused else contextlib.nullcontext():
            found = self._mesh.process(image).multi_face_landmarks or []
        self._unused = False
        return [_landmarks(face, side, (pad_x, pad_y), found_after_padding=padding > 0) for face in found]


_WIRE = np.dtype({"names": ["x", "y", "z"], "formats": ["<f4"] * 3, "offsets": [3, 8, 13], "itemsize": 17})
"""A landmark as protobuf encodes it: a tag and a length, then three times a tag and a float"""


def _landmarks(face: Any, side: int, pads: tuple[int, int], *, found_after_padding: bool) -> Landmarks:
    """Landmarks of a NormalizedLandmarkList in a square image of a side, without its padding.

    Its bytes are read at once, because reading 1,404 fields of protobuf messages takes ten times as long.
    """
    encoded = face.SerializeToString()
    if len(encoded) != len(face.landmark) * _WIRE.itemsize:
        raise ValueError("a landmark has more fields than x, y and z")
    points = np.frombuffer(encoded, _WIRE)[:LANDMARK_COUNT]
    return Landmarks(
        points_px=np.stack([points["x"], points["y"]], axis=1) * np.float32(side)
        - np.array(pads, dtype=np.float32),
        depths_px=points["z"] * np.float32(side),
        found_after_padding=found_after_padding,
    )


def crop_around(image: RGBImage, x: float, y: float, side_px: float) -> tuple[int, int, RGBImage]:
    """Left, top and pixels of the square around a face, CROP_PER_FACE times as large, cut at the border.

    The crop of a place far outside the image has no pixels.
    """
    reach = CROP_PER_FACE * side_px / 2
    height, width = image.shape[:2]
    left, right = (min(max(end, 0), width) for end in (math.floor(x - reach), math.ceil(x + reach)))
    top, bottom = (min(max(end, 0), height) for end in (math.floor(y - reach), math.ceil(y + reach)))
    return left, top, np.ascontiguousarray(image[top:bottom, left:right])


_stderr_lock = threading.Lock()


@contextlib.contextmanager
def muted_native_log() -> Iterator[None]:
    """Discard writes to file descriptor 2: MediaPipe's C++ code logs there and cannot be configured."""
    with _stderr_lock:
        kept = os.dup(2)
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
