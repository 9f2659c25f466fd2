"""Copies of classified images with the boxes and labels of their faces."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from app.cli.fonts import drawable
from csrn_client.schemas import Box, Face, Result
from model.vision.images import decode_image

NO_LIMIT_PX = 2**40
"""The service has read the image already"""
SHORTEST_PX = 200
"""Smaller images are enlarged, so that a label can be read"""
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""For the classes, in turn. People with any colour vision can tell them apart (Okabe and Ito)"""
UNKNOWN_COLOUR, EDGE = "#dddddd", "#000000"
FORMATS = {".png": "PNG", ".webp": "WEBP"}
"""By the ending of a file; any other file is written as JPEG"""
SOFTWARE_TAG, SOFTWARE = 0x0131, "csrn classify"
"""The EXIF entry that marks a picture as saved by this command"""


def picture_paths(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where the picture of each file goes: under its name in the folder.

    If two files have the same name, all keep their places below the folder that they have in common.
    """
    absolute = {file: Path(os.path.abspath(file)) for file in files}
    places = set(absolute.values())
    if len({place.name for place in places}) == len(places):
        return {file: folder / file.name for file in files}
    common = os.path.commonpath([place.parent for place in places])
    return {file: folder / place.relative_to(common) for file, place in absolute.items()}


def save_picture(file: Path, result: Result, path: Path, colours: Mapping[str, str]) -> None:
    """Write the upright image of a file with its result drawn on it.

    Args: colours, of the labels.
    Raises: OSError; ImageUnreadable.
    """
    decoded = decode_image(file.read_bytes(), max_pixels=NO_LIMIT_PX)
    image = Image.fromarray(decoded.pixels)
    enlargement = max(1, -(-SHORTEST_PX // min(image.size)))
    picture = image.resize((image.width * enlargement, image.height * enlargement), Image.Resampling.BICUBIC)
    scale = enlargement / decoded.reduction
    # The largest face is drawn last, so that its label covers those of others.
    for face in reversed(result.faces):
        _draw_face(picture, face, scale, colours)
    if not result.faces:
        _draw_label(picture, "no face found", (0, 0), UNKNOWN_COLOUR, _text_px(picture))
    exif = Image.Exif()
    exif[SOFTWARE_TAG] = SOFTWARE
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, FORMATS.get(path.suffix.lower(), "JPEG"), quality=92, exif=exif)


def is_saved_picture(path: Path) -> bool:
    """Whether save_picture wrote the file. A link to such a file is none."""
    try:
        with Image.open(path) as picture:
            return not path.is_symlink() and picture.getexif().get(SOFTWARE_TAG) == SOFTWARE
    except OSError:
        return False


def label_colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each label; more labels than colours share them."""
    return {label: COLOURS[index % len(COLOURS)] for index, label in enumerate(labels)}


def _draw_face(picture: Image.Image, face: Face, scale: float, colours: Mapping[str, str]) -> None:
    label = "unknown"
    if face.predicted is not None:
        label = f"{face.predicted} {face.scores[0].score:.2f}"
    colour = UNKNOWN_COLOUR if face.predicted is None else colours.get(face.predicted, COLOURS[0])
    left, top, right, bottom = _pixels(face.box, scale)
    line_px = max(2, round(min(picture.size) / 140))
    draw = ImageDraw.Draw(picture)
    edge = (left - 1, top - 1, right + 1, bottom + 1)
    draw.rectangle(edge, outline=EDGE, width=line_px + 2)  # a dark edge, for light backgrounds
    draw.rectangle((left, top, right, bottom), outline=colour, width=line_px)
    size_px = min(max((right - left) / 7, 14), _text_px(picture))
    _draw_label(picture, label, (left, top), colour, size_px)


def _draw_label(
    picture: Image.Image, label: str, corner: tuple[float, float], colour: str, size_px: float
) -> None:
    """Draw a label on a filled tag, above the corner if there is room, and always inside the picture."""
    text, font = drawable(label, size_px)
    widest = picture.width - size_px
    if font.getlength(text) > widest:
        text, font = drawable(label, max(size_px * widest / font.getlength(text), 8))
    pad = max(2, round(font.size / 5))
    ascent, descent = font.getmetrics()
    width, height = font.getlength(text) + 2 * pad, ascent + descent + pad
    x = min(max(corner[0], 0), max(picture.width - width, 0))
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((x, y, x + width, y + height), fill=colour, outline=EDGE)
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 130
    draw.text((x + pad, y + pad / 2), text, font=font, fill="#ffffff" if is_dark else "#000000")


def _text_px(picture: Image.Image) -> float:
    """The largest text of a picture."""
    return max(14.0, min(picture.size) / 16)


def _pixels(box: Box, scale: float) -> tuple[float, float, float, float]:
    return box.x_min * scale, box.y_min * scale, box.x_max * scale, box.y_max * scale
