from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from model.errors import ImageUnreadable
from model.vision.image_memory import reading_bytes
from model.vision.images import decode_image
from model.vision.landmarks import LandmarkFinder
from tests.support.bombs import jpeg, jpeg_with, png, segment, webp
from tests.support.image_seeds import image_seeds
from tests.support.peak_memory import peak_memory, reset_peak_memory
from tests.support.png import png_header
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
    # The heap that other tests have left takes up to a quarter more.
    assert estimated_bytes / 3 < taken_bytes < estimated_bytes * 1.3 + 8 * MIB


def test_a_photo_of_a_face_is_a_small_image() -> None:
    assert 0 < reading_bytes(sample_bytes("anger", 0)) < 3 * MIB


@pytest.mark.parametrize("make", [png, webp, jpeg])
def test_a_size_that_the_header_only_claims_counts(make: Callable[[int, int], bytes]) -> None:
    assert reading_bytes(make(5000, 5000)) > 50 * MIB


def test_a_header_in_a_strange_place_counts_as_the_largest_image() -> None:
    strange = [
        png(64, 64).replace(b"IHDR", b"tEXt", 1),
        webp(64, 64).replace(b"VP8X", b"EXIF", 1),
        encoded(Image.new("RGB", (64, 64)), "JPEG").replace(b"\xff\xc0", b"\xff\xe1"),
    ]
    strange[2] = strange[2][: strange[2].index(b"\xff\xda")]
    for data in strange:
        assert reading_bytes(data, max_pixels=10**6) == 17 * 10**6


@pytest.mark.parametrize("marker", [b"\xff\xd8", b"\xff\x01"])
def test_a_header_behind_a_marker_without_a_length_counts(marker: bytes) -> None:
    frame = segment(0xC0, struct.pack(">BHHB", 8, 64, 64, 1))
    # A reader that takes the next two bytes for a length sees the frame header of 64 x 64 pixels alone.
    hidden = marker + struct.pack(">H", 4 + 4) + b"\xff\xe4" + struct.pack(">H", 2 + len(frame) + 8) + frame
    large = jpeg(5000, 5000)
    data = large[:2] + hidden + segment(0xDA, b"\1\1\0\0\x3f\0") + large[2:]
    assert reading_bytes(data) >= reading_bytes(large) > 50 * MIB


def test_a_damaged_image_that_can_be_decoded_takes_no_more_than_estimated() -> None:
    rng = random.Random(0)
    frame = segment(0xC0, struct.pack(">BHHB", 8, 16, 16, 1))
    scan = segment(0xDA, b"\1\1\0\0\x3f\0")
    inserted = [
        *(b"\xff\xd8", b"\xff\x01", b"\xff\xd9", b"\xff\xff\xff", b"\0\0", b"\0\x08", b"\xff\xe4"),
        *(frame, scan, *(segment(marker, frame + scan) for marker in (0xE4, 0xF0, 0xDC))),
    ]
    decoded = 0
    for data in image_seeds():
        header_bytes = min(len(data), 700)
        for _ in range(60):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                at = damaged.find(b"\xff", rng.randrange(header_bytes)) if rng.random() < 0.7 else -1
                at = at if at >= 0 else rng.randrange(2, header_bytes)
                if rng.random() < 0.7:
                    damaged[at:at] = rng.choice(inserted)
                else:
                    damaged[at] = rng.randrange(256)
            try:
                pixels = decode_image(bytes(damaged)).pixels
            except ImageUnreadable:
                continue
            decoded += 1
            assert reading_bytes(bytes(damaged)) >= pixels.nbytes, bytes(damaged[:header_bytes])
    assert decoded > 100


def test_the_estimate_reads_little_of_a_file_with_junk_between_its_segments() -> None:
    comment = segment(0xFE, b"")
    assert reading_bytes(jpeg_with((comment + b"\xff" * 100) * 100)) > 0
    # decode_image refuses more.
    assert reading_bytes(jpeg_with((comment + b"\xff" * 60_000) * 100)) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR",
        png(5, 5),
        b"RIFF....WEBPVP8L",
        b"\xff\xd8\xff\xe0" + bytes(100_000),
    ],
)
def test_a_file_that_is_refused_takes_no_memory(data: bytes) -> None:
    assert reading_bytes(data) == 0


def test_a_png_with_a_second_header_is_refused() -> None:
    with pytest.raises(ImageUnreadable):
        decode_image(png(64, 64, png_header(5000, 5000)))
