"""Sound images of 12 megapixels, for the memory that decoding them takes."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image

from model.vision.images import decode_image
from tests.fuzz.target import Target
from tests.support.samples import encoded

WIDTH, HEIGHT = 4000, 3000
PIXELS = WIDTH * HEIGHT


class LargeImages(Target):
    """A PNG, and a JPEG that the decoder holds whole: 4 bytes a pixel, and what is made of it."""

    name, share = "large", 0.0
    may_grow_bytes = 8 * PIXELS
    formats: tuple[str, ...] = ("PNG", "JPEG")

    def input(self, seed: int, index: int) -> bytes:
        ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8)
        image = Image.merge("RGB", [Image.fromarray(band) for band in (ramp, ramp[::-1].copy(), 255 - ramp)])
        return encoded(image, self.formats[index], compress_level=1, progressive=True, method=0)

    def make(self, rng: random.Random) -> bytes:
        return self.input(0, 0)

    def accepts(self, data: bytes) -> bool:
        return decode_image(data).reduction == 2


class LargeWebp(LargeImages):
    """libwebp holds the canvas twice, and Pillow copies it twice."""

    name = "large-webp"
    may_grow_bytes = 18 * PIXELS
    formats = ("WEBP",)
