"""Decode an uploaded or stored image to upright 8-bit RGB."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.errors import ImageUnreadable
from model.vision.image_files import ANIMATION, orientation, still_image_file

RGBImage = npt.NDArray[np.uint8]
"""(height, width, 3) uint8, upright, sRGB as stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """An image, reduced if it has far more pixels than faces need."""

    pixels: RGBImage
    reduction: float
    """Side of the original divided by the side of `pixels`: about a power of two"""


IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
"""Endings of the file names that are read as images in a folder"""
MAX_PIXELS = 25_000_000
"""Most pixels that the decoder may hold at once; each takes about 4 bytes of a PNG or JPEG, 16 of a WebP"""
REDUCED_TO_WHOLE = 8
"""A JPEG that is decoded at a reduced size may have this many times MAX_PIXELS; phones make 200 million"""
MIN_SIDE_PX = 16
ENOUGH_PX = 1280
"""An image is halved repeatedly while both sides keep at least this many pixels"""
LONGEST_PX = 4096
"""An image is halved repeatedly while a side has more pixels than this"""
BAND_PX = 256
"""Number of rows that are converted at a time, so that a large image is not held in memory twice"""
UPRIGHT: dict[int, Callable[[RGBImage], RGBImage]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""How to turn the pixels of each EXIF orientation upright"""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode JPEG, PNG or WebP bytes to an upright RGB image.

    EXIF orientation is applied. Grey, palette, CMYK and 16-bit images are converted. Transparent pixels are
    laid over white. If a file holds several pictures (MPO, from phones), the first is decoded.

    Args: max_pixels, the most that the decoder may hold at once.
    Raises: ImageUnreadable if the bytes are not such an image, are damaged, are an animation, have too long
        or short sides or too many scans, or exceed max_pixels.
    """
    if not data:
        raise ImageUnreadable("the file is empty")
    try:
        return _decode(data, max_pixels)
    except ImageUnreadable:
        raise
    except Image.DecompressionBombError:
        # Pillow's own limit applies to WebP, whose decoder takes memory before the size is known.
        raise ImageUnreadable(f"its pixels are more than the {max_pixels} allowed") from None
    except Exception:
        # Decoders raise many kinds of errors on damaged input (OSError, SyntaxError, struct.error, ...).
        raise ImageUnreadable("the image is damaged or truncated") from None


def _decode(data: bytes, max_pixels: int) -> DecodedImage:
    file = still_image_file(data)
    # This uses the format's own class: Image.open would try other formats, and warn about large images.
    with file.decoder(io.BytesIO(file.data)) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageUnreadable(ANIMATION)
        width, height = image.size
        factor = reduction(width, height)
        # The JPEG decoder can decode at a reduced size.
        image.draft(None, (width // min(factor, 8), height // min(factor, 8)))
        held = width * height if file.decoded_whole else image.width * image.height
        for pixels, allowed in ((held, max_pixels), (width * height, max_pixels * REDUCED_TO_WHOLE)):
            if pixels > allowed:
                raise ImageUnreadable(f"{width} x {height} pixels are more than the {allowed} allowed")
        image.load()
        rgb = _reduced_rgb(image, max(factor * image.width // width, 1))
        turn = UPRIGHT.get(orientation(file.exif or image.info.get("exif", b"")))
    if turn is not None:
        rgb = np.ascontiguousarray(turn(rgb))
    return DecodedImage(pixels=rgb, reduction=max(width, height) / max(rgb.shape))


def reduction(width: int, height: int) -> int:
    """The power of two to reduce by. Raises: ImageUnreadable if a side has too few pixels."""
    if min(width, height) < MIN_SIDE_PX:
        raise ImageUnreadable(f"{width} x {height} pixels are too few: each side needs {MIN_SIDE_PX}")
    factor = 1
    while min(width, height) >= 2 * factor * ENOUGH_PX or max(width, height) > factor * LONGEST_PX:
        factor *= 2
    if min(width, height) // factor < MIN_SIDE_PX:
        raise ImageUnreadable(f"{width} x {height} pixels: one side is too short for the other")
    return factor


def _reduced_rgb(image: Image.Image, factor: int) -> RGBImage:
    """Convert to RGB and average each block of factor x factor pixels."""
    if factor == 1 and image.height <= BAND_PX:
        return np.asarray(_rgb(image))
    reduced = np.empty((-(-image.height // factor), -(-image.width // factor), 3), dtype=np.uint8)
    rows = max(BAND_PX // factor, 1)
    for top in range(0, len(reduced), rows):
        band = _rgb(image.crop((0, top * factor, image.width, min((top + rows) * factor, image.height))))
        reduced[top : top + rows] = np.asarray(band.reduce(factor) if factor > 1 else band)
    return reduced


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow's own conversion of 16-bit grey would clip every value above 255 to white.
        grey = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
