"""From the bytes of an image to the patches of its faces. Training and serving share this code."""

from __future__ import annotations

import dataclasses
import math

from model.errors import NoFace, SeveralFaces
from model.vision.face_search import FaceSearch
from model.vision.images import MAX_PIXELS, DecodedImage, decode_image
from model.vision.landmarks import Landmarks
from model.vision.patches import Patches, PatchLayout

LARGEST_TO_NEXT_AREA = 4.0
"""A support image shows one face if that face has at least this many times the area of the next largest"""
RIVALS_FROM = 0.4
"""A support image is searched for other faces whose side has this share of the largest face's side or more.

It is a little below the square root of 1 / LARGEST_TO_NEXT_AREA, because faces differ in shape.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Box:
    """A face's landmark extent in pixels of the upright original, clipped to it."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Face:
    """One face of an image."""

    box_px: Box
    landmarks: Landmarks
    """In pixels of the upright original"""
    patches: Patches


@dataclasses.dataclass(frozen=True, kw_only=True)
class FoundFaces:
    """A decoded image with the landmarks of its faces, from which patches of any layout can be cut."""

    image: DecodedImage
    landmarks: list[Landmarks]
    """Largest first, in pixels of the decoded image, which may be a reduced one"""

    def face(self, found: Landmarks, layout: PatchLayout) -> Face:
        """One of the faces with its patches in a layout."""
        landmarks = found.enlarged(self.image.reduction)
        height, width = (side * self.image.reduction for side in self.image.pixels.shape[:2])
        x_min, y_min, x_max, y_max = landmarks.extent_px
        return Face(
            box_px=Box(
                x_min=min(max(x_min, 0.0), width),
                y_min=min(max(y_min, 0.0), height),
                x_max=min(max(x_max, 0.0), width),
                y_max=min(max(y_max, 0.0), height),
            ),
            landmarks=landmarks,
            patches=layout.cut(self.image.pixels, found.points_px),
        )


def find_faces(
    data: bytes, search: FaceSearch, *, max_pixels: int = MAX_PIXELS, others_from: float = math.inf
) -> FoundFaces:
    """Decode an image and find its largest face, and others as `others_from` of FaceSearch.find says.

    Raises: ImageUnreadable.
    """
    image = decode_image(data, max_pixels=max_pixels)
    return FoundFaces(image=image, landmarks=search.find(image.pixels, others_from=others_from))


class FaceReader:
    """Decodes images and cuts the patches of their faces. Not thread-safe: one per thread."""

    def __init__(self, layout: PatchLayout, *, max_pixels: int = MAX_PIXELS, tracking: bool = False) -> None:
        """layout: the patches that the checkpoint needs. tracking: images are frames of a video."""
        self._layout = layout
        self._search = FaceSearch(tracking=tracking)
        self._max_pixels = max_pixels

    def read(self, data: bytes, *, all_faces: bool = False) -> list[Face]:
        """The largest face of an encoded image, or all faces, largest first; empty if no face is found.

        Raises: ImageUnreadable.
        """
        found = self._find(data, others_from=0.0 if all_faces else math.inf)
        chosen = found.landmarks if all_faces else found.landmarks[:1]
        return [found.face(landmarks, self._layout) for landmarks in chosen]

    def read_single(self, data: bytes) -> Face:
        """The only face of an encoded support image.

        Raises: ImageUnreadable; NoFace; SeveralFaces if the largest face has less than
            LARGEST_TO_NEXT_AREA times the area of the next.
        """
        found = self._find(data, others_from=RIVALS_FROM)
        if not found.landmarks:
            raise NoFace("no face was found in the image")
        largest, *others = found.landmarks
        if others and largest.area_px < LARGEST_TO_NEXT_AREA * others[0].area_px:
            raise SeveralFaces(
                f"{len(found.landmarks)} faces were found: a support image must show one, "
                "or one much larger than the others"
            )
        return found.face(largest, self._layout)

    def close(self) -> None:
        self._search.close()

    def _find(self, data: bytes, *, others_from: float) -> FoundFaces:
        return find_faces(data, self._search, max_pixels=self._max_pixels, others_from=others_from)
