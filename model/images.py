"""Decode an uploaded or stored image to upright 8-bit RGB."""

from __future__ import annotations

import dataclasses
import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from model.errors import ImageUnreadable

RGBImage = npt.NDArray[np.uint8]
"""(height, width, 3) uint8, upright, sRGB as stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """An image, reduced if it had far more pixels than finding and cutting faces needs."""

    pixels: RGBImage
    reduction: float
    """Pixels of the original on one of these, along a side: 1, 2, 4 or 8, to rounding"""


FORMATS = ("JPEG", "PNG", "WEBP")
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
"""By which files are taken for images where a folder holds others too"""
MAX_PIXELS = 50_000_000
MIN_SIDE_PX = 16
ENOUGH_PX = 1280
"""A JPEG is decoded at a half, a quarter or an eighth where both sides still have this many pixels"""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode JPEG, PNG or WebP bytes, told apart by content, to an upright RGB image.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit images are converted; transparent
    pixels are laid over white. Of an animation the first frame is taken.

    Raises: ImageUnreadable if the bytes are no such image, are damaged, or exceed max_pixels.
    """
    if not data:
        raise ImageUnreadable("the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a decompression bomb; the explicit check below refuses it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageUnreadable(f"{width} x {height} pixels are more than the {max_pixels} allowed")
                if min(width, height) < MIN_SIDE_PX:
                    raise ImageUnreadable(
                        f"{width} x {height} pixels are too few: each side needs {MIN_SIDE_PX}"
                    )
                # The decoder itself can leave out what would be averaged away.
                image.draft(None, (ENOUGH_PX, ENOUGH_PX))
                image.load()
                upright = ImageOps.exif_transpose(image)
                return DecodedImage(
                    pixels=np.ascontiguousarray(_to_rgb(upright)),
                    reduction=max(width, height) / max(image.size),
                )
    except ImageUnreadable:
        raise
    except UnidentifiedImageError:
        raise ImageUnreadable("not a JPEG, PNG or WebP image") from None
    except Exception:
        # Decoders raise whatever they like on damaged input (OSError, SyntaxError, struct.error, ...).
        raise ImageUnreadable("the image is damaged or truncated") from None


def _to_rgb(image: Image.Image) -> RGBImage:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # 16-bit grey: Pillow's own conversion would clip every value above 255 to white.
        grey = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"), dtype=np.uint8)
    return np.asarray(image.convert("RGB"), dtype=np.uint8)
