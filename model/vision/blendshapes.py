"""Blendshapes: how strong each movement of a face is, from 0 to 1, as MediaPipe's Face Landmarker sees it.

The Face Landmarker is the teacher of the project's own blendshape network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from model.errors import DatasetInvalid
from model.vision.images import RGBImage
from model.vision.landmarks import Points, muted_native_log
from model.vision.mediapipe_graph import run_on_callers_thread

_NAMES = """
    _neutral browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight
    cheekPuff cheekSquintLeft cheekSquintRight
    eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight
    eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight
    mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft
    mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft mouthSmileRight
    mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft noseSneerRight
"""
BLENDSHAPE_NAMES = tuple(_NAMES.split())
"""In the order in which the Face Landmarker returns them"""
BLENDSHAPE_COUNT = len(BLENDSHAPE_NAMES)
CROP_SIZE_PX = 256
CROP_SIDE_PER_EXTENT = 1.7
"""The Face Landmarker's own detector misses small or tight faces, but few in a crop of this width"""
MIN_CONFIDENCE = 0.3


class BlendshapeTeacher:
    """One Face Landmarker. Not thread-safe: use one per thread. It starts no threads of its own."""

    def __init__(self, task_file: Path) -> None:
        """task_file: the Face Landmarker bundle (.task). Raises: DatasetInvalid, OSError."""
        bundle = task_file.read_bytes()
        with muted_native_log():
            # Imported here because it takes a second; commands that read no image start without it.
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            class OnCallersThread(vision.FaceLandmarker):  # type: ignore[misc]
                """Starts no threads of its own, like the graphs of model.vision.mediapipe_graph."""

                def __init__(self, graph: Any, *arguments: Any) -> None:
                    run_on_callers_thread(graph)
                    super().__init__(graph, *arguments)

            self._image, self._format = mediapipe.Image, mediapipe.ImageFormat.SRGB
            options = vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_buffer=bundle),
                output_face_blendshapes=True,
                min_face_detection_confidence=MIN_CONFIDENCE,
                min_face_presence_confidence=MIN_CONFIDENCE,
            )
            try:
                self._landmarker: Any = OnCallersThread.create_from_options(options)
                self._detect(np.zeros((CROP_SIZE_PX, CROP_SIZE_PX, 3), dtype=np.uint8))
            except (RuntimeError, ValueError):
                raise DatasetInvalid(f"{task_file} is not a Face Landmarker bundle (.task)") from None

    def blendshapes(self, image: RGBImage, points_px: Points) -> npt.NDArray[np.float32] | None:
        """Coefficients (52,) float32 of the face with these (468, 2) landmarks; None if it is not found."""
        low, high = points_px.min(axis=0).astype(np.float64), points_px.max(axis=0).astype(np.float64)
        scale = CROP_SIZE_PX / max(float((high - low).max()) * CROP_SIDE_PER_EXTENT, 1.0)
        start = CROP_SIZE_PX / 2 - (low + high) / 2 * scale
        crop = cv2.warpAffine(
            image,
            np.array([[scale, 0, start[0]], [0, scale, start[1]]]),
            (CROP_SIZE_PX, CROP_SIZE_PX),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        faces = self._detect(crop).face_blendshapes
        if not faces:
            return None
        scores = {category.category_name: category.score for category in faces[0]}
        return np.array([scores[name] for name in BLENDSHAPE_NAMES], dtype=np.float32)

    def close(self) -> None:
        self._landmarker.close()

    def _detect(self, crop: npt.NDArray[Any]) -> Any:
        return self._landmarker.detect(
            self._image(image_format=self._format, data=np.ascontiguousarray(crop))
        )
