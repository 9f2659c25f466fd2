"""Sound images of every kind that the decoders know, from which the damaged ones are made."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from tests.support.samples import encoded, sample_image


def image_seeds() -> list[bytes]:
    """Small JPEG, PNG and WebP files of one face: each compression, colour mode, order of pixels and note."""
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
    """Adam7, which Pillow reads but does not write."""

    pixels = np.asarray(image.convert("RGB"))
    passes = (
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    )
    scanlines = b"".join(
        b"\0" + line.tobytes()
        for top, down, left, right in passes
        for line in pixels[top::down, left::right]
        if line.size
    )
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(8)
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")):
        out.write(struct.pack(">I", len(content)) + kind + content)
        out.write(struct.pack(">I", zlib.crc32(kind + content)))
    return out.getvalue()
