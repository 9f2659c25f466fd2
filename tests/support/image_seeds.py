"""Valid images of every kind that the decoders read. The fuzzer damages them."""

from __future__ import annotations

import zlib

import numpy as np
from PIL import Image

from tests.support.png import png_file, png_header
from tests.support.samples import encoded, sample_image


def image_seeds() -> list[bytes]:
    """Small JPEG, PNG and WebP files of one face, in every compression, colour mode and kind of metadata."""
    face = sample_image("happiness", 0).crop((40, 40, 216, 216)).resize((88, 96))
    grey, transparent = face.convert("L"), face.convert("RGBA")
    transparent.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    icc = bytes(range(256)) * 4
    frames = {"save_all": True, "append_images": [face.rotate(90), face.rotate(180)], "duration": 50}
    return [
        encoded(face, "JPEG"),
        encoded(face, "JPEG", progressive=True, exif=exif, icc_profile=icc),
        encoded(face, "JPEG", subsampling=0, optimize=True, comment=b"x" * 300),
        encoded(face, "JPEG", restart_marker_blocks=2),
        encoded(grey, "JPEG", progressive=True),
        encoded(grey, "JPEG", quality=5),
        encoded(face.convert("CMYK"), "JPEG"),
        encoded(face, "MPO", **frames),
        encoded(face.resize((2700, 2600)), "JPEG", quality=1),
        encoded(face, "PNG"),
        encoded(face, "PNG", exif=exif, icc_profile=icc),
        encoded(transparent, "PNG"),
        encoded(grey, "PNG", transparency=7),
        encoded(grey.convert("LA"), "PNG"),
        encoded(grey.convert("1"), "PNG"),
        encoded(face.convert("P", palette=Image.Palette.ADAPTIVE, colors=16), "PNG", bits=4),
        encoded(face.convert("P"), "PNG", transparency=bytes(range(256))),
        encoded(deep, "PNG"),
        encoded(face, "PNG", **frames),
        interlaced_png(face),
        encoded(face, "WEBP", method=0),
        encoded(face, "WEBP", lossless=True, exif=exif, icc_profile=icc),
        encoded(transparent, "WEBP", method=0),
        encoded(transparent, "WEBP", lossless=True),
        encoded(face, "WEBP", method=0, **frames),
        encoded(face.resize((5000, 40)), "WEBP", quality=1, method=0),
    ]


def interlaced_png(image: Image.Image) -> bytes:
    """An Adam7 PNG, which Pillow reads but does not write."""
    pixels = np.asarray(image.convert("RGB"))
    # Of each pass: first row, row step, first column, column step.
    passes = ("0808", "0848", "4804", "0424", "2402", "0212", "1201")
    lines = b"".join(
        b"\0" + line.tobytes()
        for top, down, left, right in (map(int, numbers) for numbers in passes)
        for line in pixels[top::down, left::right]
        if line.size
    )
    header = png_header(image.width, image.height, interlaced=True)
    return png_file((header, b"IDAT" + zlib.compress(lines), b"IEND"))
