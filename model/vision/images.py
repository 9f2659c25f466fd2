"""Decode an uploaded or stored image to upright 8-bit RGB."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.errors import ImageUnreadable
from model.vision.image_files import ANIMATION, orientation, still_image_file

RGBImage = npt.NDArray[np.uint8]
"""(height, width, 3) uint8, upright, sRGB as stored."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """An image, reduced if it had far more pixels than finding and cutting faces needs."""

    pixels: RGBImage
    reduction: float
    """Pixels of the original on one of these, along a side: a power of two, to rounding"""


IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
"""By which files are taken for images where a folder holds others too"""
MAX_PIXELS = 25_000_000
"""That the decoder may hold at once: about 4 bytes each of a PNG or a JPEG, 16 of a WebP"""
REDUCED_TO_WHOLE = 8
"""A JPEG that is decoded reduced may have so many times as many; phones make 200 million"""
MIN_SIDE_PX = 16
ENOUGH_PX = 1280
"""An image is reduced to a half, a quarter, ... where both sides still have this many pixels"""
LONGEST_PX = 4096
"""And as long as one has more than this: a face that is found there has hundreds"""
BAND_PX = 512
"""Rows that are converted at a time, so that a large image is not held twice"""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation"""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode JPEG, PNG or WebP bytes, told apart by content, to an upright RGB image.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit images are converted; transparent
    pixels are laid over white. Of a file of several pictures (MPO, as phones make) the first is taken.

    Args: max_pixels, that the decoder may hold at once.
    Raises: ImageUnreadable if the bytes are no such image, are damaged, are an animation, have sides
        or scans out of bounds, or exceed max_pixels.
    """
    if not data:
        raise ImageUnreadable("the file is empty")
    try:
        return _decode(data, max_pixels)
    except ImageUnreadable:
        raise
    except Image.DecompressionBombError:
        # Pillow's own limit, in the one format whose decoder takes memory before it tells the size.
        raise ImageUnreadable(f"its pixels are more than the {max_pixels} allowed") from None
    except Exception:
        # Decoders raise whatever they like on damaged input (OSError, SyntaxError, struct.error, ...).
        raise ImageUnreadable("the image is damaged or truncated") from None


def _decode(data: bytes, max_pixels: int) -> DecodedImage:
    file = still_image_file(data)
    # The format's own class: Image.open would try others, and warn of what is refused here.
    with file.decoder(io.BytesIO(file.data)) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise ImageUnreadable(ANIMATION)
        width, height = image.size
        factor = _reduction(width, height)
        # A JPEG decoder itself can leave out what would be averaged away.
        image.draft(None, (width // min(factor, 8), height // min(factor, 8)))
        held = width * height if file.decoded_whole else image.width * image.height
        for pixels, allowed in ((held, max_pixels), (width * height, max_pixels * REDUCED_TO_WHOLE)):
            if pixels > allowed:
                raise ImageUnreadable(f"{width} x {height} pixels are more than the {allowed} allowed")
        image.load()
        reduced = _reduced_rgb(image, max(factor * image.width // width, 1))
        turn = UPRIGHT.get(orientation(file.exif or image.info.get("exif", b"")))
        upright = reduced if turn is None else reduced.transpose(turn)
    return DecodedImage(
        pixels=np.asarray(upright, dtype=np.uint8),
        reduction=max(width, height) / max(upright.size),
    )


def _reduction(width: int, height: int) -> int:
    """The power of two to reduce by. Raises: ImageUnreadable where a side has too few pixels for it."""
    if min(width, height) < MIN_SIDE_PX:
        raise ImageUnreadable(f"{width} x {height} pixels are too few: each side needs {MIN_SIDE_PX}")
    factor = 1
    while min(width, height) >= 2 * factor * ENOUGH_PX or max(width, height) > factor * LONGEST_PX:
        factor *= 2
    if min(width, height) // factor < MIN_SIDE_PX:
        raise ImageUnreadable(f"{width} x {height} pixels: one side is too short for the other")
    return factor


def _reduced_rgb(image: Image.Image, factor: int) -> Image.Image:
    """The image in RGB, with factor x factor pixels averaged to one."""
    if factor == 1:
        return _rgb(image)
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(BAND_PX // factor, 1)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste(_rgb(band).reduce(factor), (0, top // factor))
    return reduced


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # 16-bit grey: Pillow's own conversion would clip every value above 255 to white.
        grey = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
