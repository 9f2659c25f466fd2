"""Estimates from the header of an image file how much memory it takes to read the image."""

from __future__ import annotations

import dataclasses
import struct

from model.errors import ImageUnreadable
from model.vision.image_files import FRAME_HEADERS, PROGRESSIVE, SOS, jpeg_parts
from model.vision.images import BAND_PX, MAX_PIXELS, reduction
from model.vision.landmarks import EDGE_PADDING, PADDED_SEARCH_PX

PIXEL_BYTES = 4
"""Pillow's, of a colour image"""
WEBP_BYTES = 13
"""libwebp holds two pictures and Pillow a third while Pillow makes its own"""
CONVERTED_BYTES = 24
"""Of each pixel in the rows that are converted at a time: transparent ones are copied several times"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Header:
    width: int
    height: int
    decoder_bytes: int = 0
    """What the decoder holds for each pixel besides the image that it makes"""
    makes_reduced: bool = False
    """Whether the decoder can make a reduced image"""


def reading_bytes(data: bytes, *, max_pixels: int = MAX_PIXELS) -> int:
    """The most memory that decoding an image and searching its faces takes at once, besides the file.

    The estimate is rather too high than too low. A file that is certainly refused takes none.

    Args: max_pixels, as of decode_image.
    """
    try:
        header = _header(data)
        if header is None:
            return 0
        factor = reduction(header.width, header.height)
    except (ImageUnreadable, struct.error, IndexError):
        return 0
    except _Strange:
        return max_pixels * (PIXEL_BYTES + WEBP_BYTES)
    made = min(factor, 8) if header.makes_reduced else 1
    width, height = -(-header.width // made), -(-header.height // made)
    pixels = 3 * -(-header.width // factor) * -(-header.height // factor)
    made_bytes = PIXEL_BYTES * width * height
    decoding = header.decoder_bytes * header.width * header.height + made_bytes
    # The pixels are there twice while they are turned upright.
    converting = made_bytes + CONVERTED_BYTES * width * min(height, BAND_PX) + 2 * pixels
    side = -(-max(header.width, header.height) // factor)
    padded_side = round(min(side, PADDED_SEARCH_PX) * (1 + 2 * EDGE_PADDING))
    # The finder makes a square of the image, and MediaPipe copies the square twice.
    searching = pixels + 3 * 3 * max(side, padded_side) ** 2
    # The file is there twice, because its metadata is removed.
    return max(decoding, converting, searching) + len(data)


class _Strange(Exception):
    """The header does not say the size where encoders write it, but a decoder may find it elsewhere."""


def _header(data: bytes) -> _Header | None:
    """None without the signature of a known format.

    Raises: ImageUnreadable; _Strange; struct.error; IndexError.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_header(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        if data[12:16] != b"IHDR":
            raise _Strange
        width, height = struct.unpack_from(">II", data, 16)
        return _Header(width=width, height=height)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        width, height = _webp_size(data)
        return _Header(width=width, height=height, decoder_bytes=WEBP_BYTES)
    return None


def _jpeg_header(data: bytes) -> _Header:
    width = height = components = 0
    progressive = False
    for marker, start, _ in jpeg_parts(data):
        if marker == SOS:
            in_one_pass = not progressive and data[start + 4] >= components
            return _Header(
                width=width,
                height=height,
                # Otherwise the decoder keeps the coefficients of the whole image.
                decoder_bytes=0 if in_one_pass else 2 * components,
                makes_reduced=True,
            )
        if marker in FRAME_HEADERS:
            height, width, components = struct.unpack_from(">HHB", data, start + 5)
            progressive = progressive or marker in PROGRESSIVE
    raise _Strange


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise _Strange
