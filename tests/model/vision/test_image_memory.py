from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.vision.images import decode_image
from tests.support.peak_memory import peak_memory, reset_peak_memory
from tests.support.samples import encoded

WIDTH_PX, HEIGHT_PX = 4000, 3000


@pytest.mark.parametrize(("image_format", "bytes_per_pixel"), [("PNG", 8), ("JPEG", 8), ("WEBP", 18)])
def test_a_large_image_is_held_about_once_while_it_is_decoded(
    image_format: str, bytes_per_pixel: int
) -> None:
    ramp = np.add.outer(np.arange(HEIGHT_PX), np.arange(WIDTH_PX)).astype(np.uint8)
    image = Image.merge("RGB", [Image.fromarray(band) for band in (ramp, ramp[::-1].copy(), 255 - ramp)])
    data = encoded(image, image_format, compress_level=1, progressive=True, method=0)
    decode_image(data)  # loads what a first image needs
    start_bytes = reset_peak_memory()
    assert decode_image(data).reduction == 2
    assert 3 < (peak_memory() - start_bytes) / (WIDTH_PX * HEIGHT_PX) < bytes_per_pixel
