"""Find places that look like faces with MediaPipe's short-range face detector."""

from __future__ import annotations

import dataclasses

import numpy as np

from model.vision.images import RGBImage
from model.vision.landmarks import muted_native_log
from model.vision.mediapipe_graph import open_graph

TILE_PX = 128
"""Side of the detector's input"""
SMALLEST_IN_TILE_PX = 40
"""Side of the smallest face that the detector finds reliably in a tile"""
MIN_SCORE = 0.4
"""The least score of a candidate, from 0 to 1"""
_MIN_SCORE_PARAMETER = (
    "facedetectionshortrange__facedetection__TensorsToDetectionsCalculator.min_score_thresh"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A square that may show a face, in pixels of the image."""

    x: float
    y: float
    """x and y are its middle"""
    side_px: float
    score: float
    """How much it looks like a face, from MIN_SCORE to 1"""

    def moved(self, x: float, y: float) -> Candidate:
        """The same place in an image that begins further left by x and further up by y."""
        return dataclasses.replace(self, x=self.x + x, y=self.y + y)

    def enlarged(self, factor: float) -> Candidate:
        """The same place in an image that is larger by a factor."""
        return dataclasses.replace(self, x=self.x * factor, y=self.y * factor, side_px=self.side_px * factor)


class FaceDetector:
    """One face detector. Not thread-safe: use one per thread. It starts no threads of its own."""

    def __init__(self) -> None:
        with muted_native_log():
            self._graph = open_graph(
                "modules/face_detection/face_detection_short_range_cpu.binarypb",
                calculator_params={_MIN_SCORE_PARAMETER: MIN_SCORE},
                outputs=["detections"],
            )
            # The first image makes the detector load its model.
            self._graph.process(np.zeros((TILE_PX, TILE_PX, 3), dtype=np.uint8))

    def detect(self, tile: RGBImage) -> list[Candidate]:
        """Candidates in a tile (height, width, 3) uint8. The detector scales it to TILE_PX x TILE_PX."""
        height, width = tile.shape[:2]
        candidates = []
        for detection in self._graph.process(tile).detections or []:
            box = detection.location_data.relative_bounding_box
            candidates.append(
                Candidate(
                    x=(box.xmin + box.width / 2) * width,
                    y=(box.ymin + box.height / 2) * height,
                    side_px=max(box.width * width, box.height * height),
                    score=detection.score[0],
                )
            )
        return candidates

    def close(self) -> None:
        """Free the detector."""
        self._graph.close()
