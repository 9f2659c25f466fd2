"""Images for tests: the sample faces that the project ships, and pictures without one clear face."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "app" / "samples"
EXPRESSIONS = ("anger", "happiness", "sadness", "surprise")


def sample_bytes(expression: str, index: int) -> bytes:
    return (SAMPLES / expression / f"{index:02}.jpg").read_bytes()


def distinct_copy(jpeg: bytes, number: int) -> bytes:
    """The same picture in other bytes: the file has a comment with the number."""
    comment = f"copy {number}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def sample_image(expression: str, index: int) -> Image.Image:
    return Image.open(SAMPLES / expression / f"{index:02}.jpg").convert("RGB")


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def two_faces() -> bytes:
    both = np.hstack([np.asarray(sample_image("anger", 0)), np.asarray(sample_image("happiness", 0))])
    return encoded(Image.fromarray(both))


def no_face() -> bytes:
    return encoded(Image.new("RGB", (200, 200), (90, 120, 60)))
