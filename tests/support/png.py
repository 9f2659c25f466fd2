"""Writes PNG files chunk by chunk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable


def png_file(chunks: Iterable[bytes]) -> bytes:
    """A PNG of these chunks, each of which begins with its kind. Lengths and checksums are added."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def png_header(width: int, height: int, *, interlaced: bool = False) -> bytes:
    """The first chunk of a PNG with 8-bit RGB pixels."""
    return b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
