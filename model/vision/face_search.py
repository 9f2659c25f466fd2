"""Find all faces of an image, down to a twenty-fifth of its longer side.

FaceMesh searches the whole image first, and finds nearly every face of 0.3 of the longer side. Smaller faces
are found in tiles of the image at several scales, largest faces first: the face detector proposes candidates,
and FaceMesh searches a square around each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from model.vision.face_detector import SMALLEST_IN_TILE_PX, TILE_PX, Candidate, FaceDetector
from model.vision.images import RGBImage
from model.vision.landmarks import LandmarkFinder, Landmarks, crop_around

SMALLEST_SHARE = 0.04
"""Side of the smallest face that is searched for, as a share of the image's longer side"""
SMALLEST_PX = 32
"""Side of the smallest face that is searched for, in pixels"""
FACEMESH_SHARE = 0.3
"""FaceMesh finds nearly every face of this share of the longer side in the whole image"""
LEVEL_STEP = 2.5
"""Each level of the search is for faces that are larger by this factor than those of the next finer level"""
OVERLAP_PX = 30
"""Neighbouring tiles share at least this many pixels, so that a small face lies whole in one of them"""
MARGIN_PX = 16
"""Width of the repeated edge pixels around the image"""
PLAIN = 16
"""A tile shows no face if its brightest and darkest value differ by less than this"""
MAX_OVERLAP = 0.3
"""Of two candidates whose intersection is a larger share of their union, the lower-scoring is dropped"""
CONFIRMED_SCORE = 0.55
"""The least score of a candidate in a square of twice its side, its second look; textures rarely reach it"""
MAX_CANDIDATES = 100
"""The most candidates of one image that get a second look"""
MAX_OF_LEVEL = 20
"""The most of them in one level, unless all faces are wanted: parts of a texture may look like faces"""
MAX_FACES = 64
"""The most faces of one image; the largest are kept"""


class FaceSearch:
    """Finds faces of any size. Not thread-safe: use one per thread."""

    def __init__(self, *, tracking: bool = False) -> None:
        """tracking: images are frames of one video. Only FaceMesh searches them, for one face."""
        self._mesh = LandmarkFinder(tracking=tracking)
        self._detector = None if tracking else FaceDetector()

    def find(self, image: RGBImage, *, others_from: float = math.inf) -> list[Landmarks]:
        """Landmarks of the faces that FaceMesh finds in the whole image or, if it finds none, of the largest.

        Args: others_from: search tiles, too, for faces whose side has at least this share of the side of the
            largest face that FaceMesh finds; 0 finds all faces.
        Returns: at most MAX_FACES, largest first; empty if no face is found.
        """
        found = self._mesh.find(image)
        if self._detector is None or (found and others_from == math.inf):
            return found
        smallest_px = max(SMALLEST_SHARE * max(image.shape[:2]), SMALLEST_PX)
        if found:
            smallest_px = max(smallest_px, others_from * found[0].side_px)
        # FaceMesh misses faces beside eight others, whatever their size.
        found = self._search(image, self._detector, smallest_px, found, others_from)
        return sorted(found, key=lambda face: face.area_px, reverse=True)[:MAX_FACES]

    def close(self) -> None:
        self._mesh.close()
        if self._detector is not None:
            self._detector.close()

    def _search(
        self,
        image: RGBImage,
        detector: FaceDetector,
        smallest_px: float,
        found: list[Landmarks],
        others_from: float,
    ) -> list[Landmarks]:
        """The faces in `found` and those that are found in tiles."""
        searched = 0
        of_level = MAX_OF_LEVEL if others_from else MAX_CANDIDATES
        for scale in reversed(level_scales(image, smallest_px)):
            for candidate in _candidates(image, detector, scale, found, at_most=of_level):
                if searched == MAX_CANDIDATES:
                    return found
                if any(face.contains(candidate.x, candidate.y) for face in found):
                    continue
                searched += 1
                if not _is_confirmed(image, detector, candidate):
                    continue
                face = self._mesh.find_at(image, candidate.x, candidate.y, candidate.side_px)
                if face is not None and not any(other.contains(*face.middle_px) for other in found):
                    found = [*found, face]
                    if others_from == math.inf:
                        return found
        return found


def _is_confirmed(image: RGBImage, detector: FaceDetector, candidate: Candidate) -> bool:
    """Whether the detector gives a face CONFIRMED_SCORE with the candidate in the middle of its input."""
    _, _, crop = crop_around(image, candidate.x, candidate.y, candidate.side_px)
    return crop.size > 0 and any(seen.score >= CONFIRMED_SCORE for seen in detector.detect(crop))


def _candidates(
    image: RGBImage, detector: FaceDetector, scale: float, found: list[Landmarks], *, at_most: int
) -> list[Candidate]:
    """The best candidates in tiles of the scaled image, in pixels of the image itself, largest first."""
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    scaled: RGBImage = cv2.resize(  # type: ignore[assignment]
        image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    known = [face.enlarged(scale) for face in found]
    candidates = []
    for left, top, tile in tiles(scaled):
        if np.ptp(tile) < PLAIN or any(_leaves_no_room(face, left, top) for face in known):
            continue
        candidates += [seen.moved(left, top).enlarged(1 / scale) for seen in detector.detect(tile)]
    best = sorted(_without_overlaps(candidates), key=lambda one: one.score)[-at_most:]
    return sorted(best, key=lambda one: one.side_px, reverse=True)


def level_scales(image: RGBImage, smallest_px: float) -> list[float]:
    """Factors to scale an image by, so that tiles show every face from smallest_px to FACEMESH_SHARE."""
    scales = []
    while smallest_px < FACEMESH_SHARE * max(image.shape[:2]):
        scales.append(SMALLEST_IN_TILE_PX / smallest_px)
        smallest_px *= LEVEL_STEP
    return scales


def tiles(image: RGBImage) -> Iterator[tuple[int, int, RGBImage]]:
    """Left, top and pixels of the tiles that cover an image.

    The edge pixels are repeated outwards by MARGIN_PX, because the detector misses faces at the very border.
    """
    height, width = (side + 2 * MARGIN_PX for side in image.shape[:2])
    below, right = (max(TILE_PX - side, 0) + MARGIN_PX for side in (height, width))
    padded: RGBImage = cv2.copyMakeBorder(  # type: ignore[assignment]
        image, MARGIN_PX, below, MARGIN_PX, right, cv2.BORDER_REPLICATE
    )
    for top in _starts(height):
        for left in _starts(width):
            tile = np.ascontiguousarray(padded[top : top + TILE_PX, left : left + TILE_PX])
            yield left - MARGIN_PX, top - MARGIN_PX, tile


def _starts(side: int) -> list[int]:
    """The first pixels of evenly spread tiles along a side."""
    last = max(side - TILE_PX, 0)
    steps = math.ceil(last / (TILE_PX - OVERLAP_PX))
    return [round(last * step / steps) for step in range(steps)] + [last]


def _leaves_no_room(face: Landmarks, left: int, top: int) -> bool:
    """Whether a face covers so much of a tile that no other face fits beside it."""
    x_min, y_min, x_max, y_max = face.extent_px
    room_px = max(x_min - left, y_min - top, left + TILE_PX - x_max, top + TILE_PX - y_max)
    return room_px < SMALLEST_IN_TILE_PX


def _without_overlaps(candidates: list[Candidate]) -> list[Candidate]:
    squares = [
        (one.x - one.side_px / 2, one.y - one.side_px / 2, one.side_px, one.side_px) for one in candidates
    ]
    kept = cv2.dnn.NMSBoxes(squares, [one.score for one in candidates], 0.0, MAX_OVERLAP)
    return [candidates[index] for index in kept]
