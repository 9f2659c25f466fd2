"""Small image files that would cost minutes or gigabytes if a decoder did what they ask for."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tests.support.png import png_file, png_header
from tests.support.samples import encoded

MIB = 2**20
FILE_BYTES = 10 * MIB
"""The largest image file that the service accepts"""


def png(width: int, height: int, *chunks: bytes, pixels: bytes = b"") -> bytes:
    """A black PNG with further chunks, or with other compressed pixels than its header says."""
    pixels = pixels or zlib.compress(bytes(height * (1 + 3 * width)))
    return png_file((png_header(width, height), *chunks, b"IDAT" + pixels, b"IEND"))


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A JPEG whose header says this size, and whose pixels end early. Decoders fill in the rest."""
    data = encoded(Image.new("L", (16, 16)), "JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def jpeg_with(inserted: bytes) -> bytes:
    """A valid JPEG with these bytes before its first segment."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    return data[:2] + inserted + data[2:]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan, each time for the whole image."""
    data = encoded(Image.effect_noise((64, 64), 50).resize((side, side)), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def webp(width: int, height: int, *chunks: bytes) -> bytes:
    """A WebP of 64 x 64 pixels on a canvas of this size."""
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    still = encoded(Image.new("RGB", (64, 64)), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + b"".join(chunks) + still
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _filled(piece: bytes) -> bytes:
    return piece * ((FILE_BYTES - 20_000) // len(piece))


INFLATING = zlib.compress(bytes(MIB))
NO_PIXELS = zlib.compress(bytes(999))
PHOTOSHOP = segment(0xED, b"Photoshop 3.0\0" + b"8BIM".ljust(12, b"\0") * 5400)
EXIF_LOOP = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" + bytes(60_000))
REFUSED: dict[str, Callable[[], bytes]] = {
    "PNG of endless sides": lambda: png(2**31 - 1, 2**31 - 1, pixels=NO_PIXELS),
    "PNG of 1.6 gigapixels": lambda: png(40_000, 40_000, pixels=NO_PIXELS),
    "PNG of a million chunks": lambda: png(64, 64, *[b"IDAT"] * 800_000),
    "PNG one pixel too narrow": lambda: png(15, 4000),
    "PNG of a long line": lambda: png(1_000_000, 16),
    "JPEG of endless sides": lambda: jpeg(65_500, 65_500),
    "progressive JPEG of 200 megapixels": lambda: jpeg(16_000, 12_500, progressive=True),
    "JPEG of a long line": lambda: jpeg(65_500, 16),
    "JPEG of thousands of scans": lambda: jpeg_of_scans(5000, 7000),
    "JPEG of a million comments": lambda: jpeg_with(_filled(segment(0xFE, b""))),
    "JPEG of thousands of quantisation tables": lambda: jpeg_with(_filled(segment(0xDB, bytes(65_000)))),
    "JPEG with megabytes between its segments": lambda: jpeg_with(segment(0xFE, b"") + _filled(bytes(1000))),
    "WebP of endless sides": lambda: webp(2**24, 2**24),
    "WebP of a canvas larger than its picture": lambda: webp(5000, 5000),
}
ACCEPTED: dict[str, Callable[[], bytes]] = {
    "PNG with thousands of texts that inflate": lambda: png(
        64, 64, *[b"zTXt%d\0\0" % index + INFLATING for index in range(9000)]
    ),
    "PNG with thousands of profiles that inflate": lambda: png(64, 64, *[b"iCCPx\0\0" + INFLATING] * 9000),
    "PNG with far more pixels than its sides": lambda: png(64, 64, pixels=zlib.compress(bytes(256 * MIB), 1)),
    "JPEG of 200 megapixels that end early": lambda: jpeg(16_000, 12_500),
    "JPEG of as many scans and pixels as are allowed": lambda: jpeg_of_scans(5000, 90),
    "JPEG of long comments": lambda: jpeg_with(_filled(segment(0xFE, bytes(65_000)))),
    "JPEG with thousands of Photoshop blocks": lambda: jpeg_with(_filled(PHOTOSHOP)),
    "JPEG with EXIF that points at itself": lambda: jpeg_with(EXIF_LOOP),
    "WebP of a million chunks": lambda: webp(64, 64, _filled(b"none\0\0\0\0")),
}
"""Valid images all the same"""
BOMBS = REFUSED | ACCEPTED
