"""Small image files that would take minutes or gigabytes if a decoder did as they say."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from PIL import Image

from tests.fuzz.target import MIB
from tests.support.samples import encoded

FILE_BYTES = 10 * MIB
"""As many as the service takes"""


def png(width: int, height: int, *chunks: tuple[bytes, bytes], pixels: bytes = b"") -> bytes:
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = pixels or zlib.compress(bytes(height * (1 + 3 * width)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in (header, *chunks, (b"IDAT", pixels), (b"IEND", b""))
    )


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    """A small grey JPEG that says it is so large: its pixels end early, and decoders fill up the rest."""
    data = encoded(Image.new("L", (16, 16)), "JPEG", progressive=progressive)
    at = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def jpeg_with(inserted: bytes) -> bytes:
    """A sound JPEG with something put before its first segment."""
    data = encoded(Image.new("RGB", (64, 64)), "JPEG")
    return data[:2] + inserted + data[2:]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG in which the last scan is repeated, each time for the whole image."""
    data = encoded(Image.effect_noise((64, 64), 50).resize((side, side)), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    # Of a refinement scan an end-of-band run for all blocks is enough.
    return data[:last] + data[last:-2] * scans + data[-2:]


def webp(width: int, height: int, *chunks: bytes) -> bytes:
    sides = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    still = encoded(Image.new("RGB", (64, 64)), "WEBP")[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + b"".join(chunks) + still
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _filled(piece: bytes) -> bytes:
    return piece * ((FILE_BYTES - 20_000) // len(piece))


INFLATING = zlib.compress(bytes(MIB))
BOMBS: dict[str, tuple[bool, Callable[[], bytes]]] = {
    "PNG of endless sides": (False, lambda: png(2**31 - 1, 2**31 - 1, pixels=zlib.compress(bytes(999)))),
    "PNG of 1.6 gigapixels": (False, lambda: png(40_000, 40_000, pixels=zlib.compress(bytes(999)))),
    "PNG with thousands of texts that inflate": (
        True,
        lambda: png(64, 64, *[(b"zTXt", b"%d\0\0" % index + INFLATING) for index in range(9000)]),
    ),
    "PNG with thousands of profiles that inflate": (
        True,
        lambda: png(64, 64, *[(b"iCCP", b"x\0\0" + INFLATING)] * 9000),
    ),
    "PNG with pixels that inflate far past its sides": (
        True,
        lambda: png(64, 64, pixels=zlib.compress(bytes(256 * MIB), 1)),
    ),
    "PNG of a million chunks": (False, lambda: png(64, 64, *[(b"IDAT", b"")] * 800_000)),
    "PNG one pixel too narrow": (False, lambda: png(15, 4000)),
    "PNG of a long line": (False, lambda: png(1_000_000, 16)),
    "JPEG of endless sides": (False, lambda: jpeg(65_500, 65_500)),
    "JPEG of 200 megapixels that end early": (True, lambda: jpeg(16_000, 12_500)),
    "progressive JPEG of 200 megapixels": (False, lambda: jpeg(16_000, 12_500, progressive=True)),
    "JPEG of a long line": (False, lambda: jpeg(65_500, 16)),
    "JPEG of thousands of scans": (False, lambda: jpeg_of_scans(5000, 7000)),
    "JPEG of as many scans and pixels as may be": (True, lambda: jpeg_of_scans(5000, 90)),
    "JPEG of a million comments": (False, lambda: jpeg_with(_filled(segment(0xFE, b"")))),
    "JPEG of long comments": (True, lambda: jpeg_with(_filled(segment(0xFE, bytes(65_000))))),
    "JPEG with junk between its segments": (
        True,
        lambda: jpeg_with(segment(0xFE, b"") + _filled(bytes(1000))),
    ),
    "JPEG of thousands of quantisation tables": (
        False,
        lambda: jpeg_with(_filled(segment(0xDB, bytes(65 * 1000)))),
    ),
    "JPEG with thousands of Photoshop blocks": (
        True,
        lambda: jpeg_with(_filled(segment(0xED, b"Photoshop 3.0\0" + b"8BIM".ljust(12, b"\0") * 5400))),
    ),
    "JPEG with notes that point at themselves": (
        True,
        lambda: jpeg_with(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\xff\xff" + bytes(60_000))),
    ),
    "WebP of endless sides": (False, lambda: webp(2**24, 2**24)),
    "WebP of a canvas that its picture does not fill": (False, lambda: webp(5000, 5000)),
    "WebP of a million chunks": (True, lambda: webp(64, 64, _filled(b"none\0\0\0\0"))),
}
"""By name: whether it is a sound image all the same, and the file"""
