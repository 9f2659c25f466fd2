"""Image files before they are decoded: recognises the format and keeps only what the decoder needs.

A malicious file of a few kilobytes can keep a decoder busy for minutes: with text that inflates a
thousandfold, with a million empty segments, or with scans drawn over each other. Here one cheap pass
reads a file and removes everything that does not describe pixels.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Iterator

from PIL import ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from model.errors import ImageUnreadable

MAX_SEGMENTS = 2000
"""In a JPEG; depth maps and colour profiles take up to about 200 segments of 64 KB"""
MAX_CHUNKS = 50_000
"""In a PNG; encoders may split the pixels into chunks of a few hundred bytes"""
MAX_SCANS = 100
"""In a JPEG; each scan costs a pass over the whole image, and encoders write about ten"""
MAX_QUANTISATION_BYTES = 4 * 129
MAX_JUNK_BYTES = 2**16
"""Between the segments of a JPEG, together: encoders write none, or a few bytes 0xff"""
SEARCHED_AT_ONCE_BYTES = 2**16
ANIMATION = "the file is an animation, not a still image: send a single frame"


@dataclasses.dataclass(frozen=True, kw_only=True)
class StillImageFile:
    """A file without its metadata, and the class that decodes it."""

    data: bytes
    decoder: type[ImageFile.ImageFile]
    exif: bytes = b""
    decoded_whole: bool = True
    """Whether the decoder holds all pixels at once, so decoding at a reduced size saves no memory"""


def still_image_file(data: bytes) -> StillImageFile:
    """Recognise JPEG, PNG and WebP by their content and remove what decoding does not need.

    Raises: ImageUnreadable; struct.error or IndexError if the file ends within a header.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return StillImageFile(data=data, decoder=WebPImagePlugin.WebPImageFile)
    raise ImageUnreadable("the file is not a JPEG, PNG or WebP image")


SOS = 0xDA
"""The marker of a JPEG that starts a scan"""
SCAN_DATA = 0
"""Stands for the marker of the data after the header of a scan"""
FRAME_HEADERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Markers of the segments of a JPEG that state its size"""
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Frame headers of progressive images, which are refined scan by scan"""
_SOI, _EOI, _DQT, _TEM = 0xD8, 0xD9, 0xDB, 0x01
_APP0_JFIF, _APP1_EXIF, _APP14_ADOBE = 0xE0, 0xE1, 0xEE
_DHT, _DAC, _DRI = 0xC4, 0xCC, 0xDD
_KEPT = (*FRAME_HEADERS, _DHT, _DAC, _DQT, _DRI, _APP0_JFIF, _APP14_ADOBE, SOS, SCAN_DATA, _EOI)
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Starts a segment or ends a scan; within a scan's data, 0xff is followed by 0 or a restart marker"""


def jpeg_parts(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each part of a JPEG's first image: segments, data of scans, the end marker.

    The decoder and the estimate of its memory read a file with this function, so they read the same headers.
    A scan's data is searched for its end only when the next part is asked for.

    Raises: ImageUnreadable; struct.error if the file ends within a header.
    """
    position, junk_bytes = 2, 0
    for _ in range(MAX_SEGMENTS):
        start = _next_marker(data, position, position + MAX_JUNK_BYTES - junk_bytes)
        junk_bytes += start - position
        if junk_bytes >= MAX_JUNK_BYTES:
            raise ImageUnreadable(f"the JPEG has {MAX_JUNK_BYTES} bytes or more between its segments")
        if start == len(data):
            return
        marker, position = data[start + 1], start + 2
        if marker == _EOI:
            yield marker, start, position
            return
        if marker in (_SOI, _TEM):
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if length < 2:
            raise ImageUnreadable("the image is damaged or truncated")
        position += length
        yield marker, start, position
        if marker == SOS:
            start, position = position, _next_marker(data, position, len(data))
            yield SCAN_DATA, start, position
    raise ImageUnreadable(f"the JPEG has more than {MAX_SEGMENTS} segments")


def _next_marker(data: bytes, start: int, end: int) -> int:
    """The place of the first marker from start, or else the smaller of end and the file's length.

    Other threads can run between the pieces, because a search keeps Python's lock.
    """
    end = min(end, len(data))
    for piece in range(start, end, SEARCHED_AT_ONCE_BYTES):
        # A marker has two bytes, so it may lie across the end of a piece.
        if found := _MARKER.search(data, piece, min(piece + SEARCHED_AT_ONCE_BYTES, end) + 1):
            return found.start()
    return end


def _jpeg(data: bytes) -> StillImageFile:
    """Keep the first image alone: phones append further images or a video."""
    kept, exif, scans = [b"\xff\xd8"], b"", 0
    components = components_of_first_scan = 0
    progressive = False
    for marker, start, end in jpeg_parts(data):
        if marker == SOS:
            scans += 1
            components_of_first_scan = components_of_first_scan or data[start + 4]
            if scans > MAX_SCANS:
                raise ImageUnreadable(f"the JPEG has more than {MAX_SCANS} scans")
        elif marker == _DQT and end - start - 4 > MAX_QUANTISATION_BYTES:
            raise ImageUnreadable("the image is damaged or truncated")
        elif marker in FRAME_HEADERS:
            components = data[start + 9]
            progressive = progressive or marker in PROGRESSIVE
        elif marker == _APP1_EXIF and data[start + 4 : start + 10] == b"Exif\0\0":
            exif = exif or data[start + 4 : end]
        if marker in _KEPT:
            kept.append(data[start:end])
    return StillImageFile(
        data=b"".join(kept),
        decoder=JpegImagePlugin.JpegImageFile,
        exif=exif,
        # A single sequential scan is decoded block by block; otherwise the decoder keeps all blocks.
        decoded_whole=progressive or scans > 1 or components_of_first_scan < components,
    )


def _png(data: bytes) -> StillImageFile:
    kept, exif = [data[:8]], b""
    pixels: list[bytes] = []
    position, chunks = 8, 0
    while position + 8 <= len(data):
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise ImageUnreadable(f"the PNG has more than {MAX_CHUNKS} chunks")
        length, kind = struct.unpack_from(">I4s", data, position)
        content = slice(position + 8, position + 8 + length)
        position += 12 + length
        if kind == b"IDAT":
            pixels.append(data[content])
        elif kind == b"IEND":
            break
        elif kind == b"eXIf":
            exif = exif or data[content]
        elif pixels:
            continue
        elif kind == b"acTL" and struct.unpack_from(">I", data, content.start)[0] > 1:
            raise ImageUnreadable(ANIMATION)
        elif kind == b"IHDR" and len(kept) > 1:
            raise ImageUnreadable("the image is damaged or truncated")
        elif kind in (b"IHDR", b"PLTE", b"tRNS"):
            kept.append(data[content.start - 8 : position])
    # The pixels go into one chunk. Pillow ignores its checksum, because zlib has its own.
    together = b"".join(pixels)
    kept += [struct.pack(">I4s", len(together), b"IDAT"), together, bytes(4), bytes(4), b"IEND", bytes(4)]
    return StillImageFile(data=b"".join(kept), decoder=PngImagePlugin.PngImageFile, exif=exif)


def orientation(exif: bytes) -> int:
    """The EXIF orientation of an image, 1 (upright) to 8; 1 if the EXIF data is damaged or silent."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, start)
        for index in range(entries):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * index)
            if (tag, kind) == (0x0112, 3):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
