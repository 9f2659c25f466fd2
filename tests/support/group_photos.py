"""Photos of small faces and of groups, made of real photos that show one face each."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageOps

from model.vision.faces import Box, FaceReader
from tests.support.samples import EXPRESSIONS, encoded, sample_bytes, sample_image
from tests.support.shared_data import SHARED

BACKGROUND = (120, 110, 100)


@functools.cache
def portraits() -> list[Image.Image]:
    """The sample faces and, where shared/faces exists, every fourth of its 237 photos."""
    files = sorted((SHARED / "faces").glob("*/*.jpg"))[::4]
    photos = [Image.open(file).convert("RGB") for file in files]
    return [sample_image(expression, index) for index in range(8) for expression in EXPRESSIONS] + [
        photo for photo in photos if photo.size == (350, 350)
    ]


def group_photo(columns: int, rows: int, cell_px: int) -> bytes:
    """A JPEG of columns x rows different portraits side by side, each on a square of cell_px."""
    photo = Image.new("RGB", (columns * cell_px, rows * cell_px))
    for index in range(columns * rows):
        portrait = portraits()[index % len(portraits())]
        photo.paste(
            ImageOps.fit(portrait, (cell_px, cell_px)),
            (index % columns * cell_px, index // columns * cell_px),
        )
    return encoded(photo, "JPEG", quality=92)


def with_small_face(
    reader: FaceReader, size_px: tuple[int, int], face_px: float, place: tuple[float, float]
) -> tuple[Image.Image, Box]:
    """A photo with one small face, and where the face is.

    Args:
        reader: finds the face in the portrait at its own size.
        size_px: width and height of the photo.
        face_px: longer side of the face.
        place: of the portrait, from (0, 0) at the upper left of the photo to (1, 1) at its lower right.
    """
    original = reader.read_single(sample_bytes("happiness", 0)).box_px
    scale = face_px / max(original.x_max - original.x_min, original.y_max - original.y_min)
    portrait = sample_image("happiness", 0)
    portrait = portrait.resize((round(portrait.width * scale), round(portrait.height * scale)))
    photo = Image.new("RGB", size_px, BACKGROUND)
    left = round(place[0] * (photo.width - portrait.width))
    top = round(place[1] * (photo.height - portrait.height))
    photo.paste(portrait, (left, top))
    return photo, Box(
        x_min=original.x_min * scale + left,
        y_min=original.y_min * scale + top,
        x_max=original.x_max * scale + left,
        y_max=original.y_max * scale + top,
    )


def textures() -> dict[str, Image.Image]:
    """Photos and patterns without a face, by name."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3)).astype(np.uint8)
    blurred = Image.fromarray(noise[:30, :40]).resize((1280, 960), Image.Resampling.BICUBIC)
    # The background beside the head of the portrait.
    wall = sample_image("anger", 0).crop((0, 0, 60, 60)).resize((1200, 1200), Image.Resampling.BICUBIC)
    return {"noise": Image.fromarray(noise), "clouds": blurred, "wall": wall}
