"""Damaged images, decoded and searched for faces."""

from __future__ import annotations

import random

import numpy as np

from model.errors import ImageUnreadable
from model.vision.faces import FaceReader
from model.vision.images import LONGEST_PX, MIN_SIDE_PX, decode_image
from model.vision.patches import LAYOUTS
from tests.fuzz.image_mutations import damaged_image
from tests.fuzz.image_seeds import image_seeds
from tests.fuzz.mutations import damaged
from tests.fuzz.target import MIB, Target
from tests.support.samples import sample_bytes


class Images(Target):
    """model.vision.images.decode_image"""

    name, share = "images", 0.45
    # 16 bytes for each of the 25 million pixels that a WebP may have.
    may_grow_bytes = 480 * MIB

    def __init__(self) -> None:
        self.seeds = image_seeds()

    def make(self, rng: random.Random) -> bytes:
        data = rng.choice(self.seeds)
        if rng.random() < 0.7:
            data = damaged_image(rng, data, self.seeds)
        return damaged(rng, data, self.seeds) if rng.random() < 0.4 else data

    def accepts(self, data: bytes) -> bool:
        try:
            decoded = decode_image(data)
        except ImageUnreadable:
            return False
        height, width, channels = decoded.pixels.shape
        assert (channels, str(decoded.pixels.dtype)) == (3, "uint8")
        assert min(height, width) >= MIN_SIDE_PX, (width, height)
        assert max(height, width) <= LONGEST_PX, (width, height)
        return True


class Faces(Images):
    """model.vision.faces.FaceReader"""

    name, share = "faces", 0.05
    may_print = True  # MediaPipe logs as it starts.

    def __init__(self) -> None:
        self.seeds = [*image_seeds(), sample_bytes("anger", 1), sample_bytes("surprise", 2)]
        self._reader = FaceReader(LAYOUTS["tight"])

    def accepts(self, data: bytes) -> bool:
        try:
            faces = self._reader.read(data, all_faces=True)
        except ImageUnreadable:
            return False
        assert all(np.isfinite(face.landmarks.points_px).all() for face in faces)
        return True

    def close(self) -> None:
        self._reader.close()
