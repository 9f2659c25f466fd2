from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.vision.image_memory import reading_bytes
from model.vision.images import decode_image
from model.vision.landmarks import LandmarkFinder
from tests.support.bombs import jpeg, png, webp
from tests.support.peak_memory import peak_memory, reset_peak_memory
from tests.support.samples import encoded, sample_bytes

MIB = 2**20
LARGE = {
    "JPEG": ("RGB", "JPEG", {}),
    "grey JPEG": ("L", "JPEG", {}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "PNG": ("RGB", "PNG", {"compress_level": 1}),
    "PNG with transparency": ("RGBA", "PNG", {"compress_level": 1}),
    "16-bit PNG": ("I;16", "PNG", {"compress_level": 1}),
    "WebP": ("RGB", "WEBP", {"method": 0}),
    "lossless WebP with transparency": ("RGBA", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
}


def picture(mode: str, width: int, height: int) -> Image.Image:
    """A picture that compresses neither perfectly nor badly, without a face."""
    ramp = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(ramp.astype(np.uint16) * 257)
    shades = np.arange(len(Image.new(mode, (1, 1)).getbands()), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(ramp + shade) for shade in shades])


@pytest.fixture(scope="module")
def finder() -> LandmarkFinder:
    return LandmarkFinder()


@pytest.mark.parametrize(("width", "height"), [(2800, 2600), (3200, 1200)], ids=["reduced", "unreduced"])
@pytest.mark.parametrize("kind", LARGE)
def test_reading_takes_about_as_much_memory_as_estimated(
    kind: str, width: int, height: int, finder: LandmarkFinder
) -> None:
    mode, image_format, options = LARGE[kind]
    data = encoded(picture(mode, width, height), image_format, **options)
    finder.find(decode_image(data).pixels)  # loads what a first image needs
    start_bytes = reset_peak_memory()
    assert finder.find(decode_image(data).pixels) == []
    taken_bytes, estimated_bytes = peak_memory() - start_bytes, reading_bytes(data)
    print(f"{kind}, {width} x {height}: {taken_bytes / MIB:.0f} MiB, estimated {estimated_bytes / MIB:.0f}")
    assert estimated_bytes / 3 < taken_bytes < estimated_bytes * 1.1 + 4 * MIB


def test_a_photo_of_a_face_is_a_small_image() -> None:
    assert 0 < reading_bytes(sample_bytes("anger", 0)) < 3 * MIB


@pytest.mark.parametrize("make", [png, webp, jpeg])
def test_a_size_that_the_header_only_claims_counts(make: object) -> None:
    assert callable(make)
    assert reading_bytes(make(5000, 5000)) > 50 * MIB


def test_a_header_in_a_strange_place_counts_as_the_largest_image() -> None:
    strange = [
        png(64, 64).replace(b"IHDR", b"tEXt", 1),
        webp(64, 64).replace(b"VP8X", b"EXIF", 1),
        encoded(Image.new("RGB", (64, 64)), "JPEG").replace(b"\xff\xc0", b"\xff\xe1"),
        b"\xff\xd8\xff\xe0" + b"\0" * 100_000,
    ]
    strange[2] = strange[2][: strange[2].index(b"\xff\xda")]
    for data in strange:
        assert reading_bytes(data, max_pixels=10**6) == 17 * 10**6


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR", png(5, 5), b"RIFF....WEBPVP8L"]
)
def test_a_file_that_is_refused_takes_no_memory(data: bytes) -> None:
    assert reading_bytes(data) == 0
