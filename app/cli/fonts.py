"""Fonts for drawing labels of any script."""

from __future__ import annotations

import functools
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

DEJAVU = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
"""Comes with matplotlib. It has Latin, Greek, Cyrillic, Arabic and more, but no Chinese or Japanese"""


def drawable(text: str, size_px: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text and a font that has all of its characters.

    Where no font on this machine has them, the missing characters are written as their numbers.
    """
    if path := _font_with(frozenset(text)):
        return text, ImageFont.truetype(path, size_px)
    known = _characters(DEJAVU)
    text = "".join(character if character in known else ascii(character)[1:-1] for character in text)
    return text, ImageFont.truetype(DEJAVU, size_px)


def system_fonts() -> list[Path]:
    """The font files of this machine, upright ones of normal weight first."""
    from matplotlib import font_manager  # takes a moment, and most labels need no other font

    files = map(Path, font_manager.findSystemFonts())
    return sorted(files, key=lambda file: ("regular" not in file.stem.lower(), file))


@functools.cache
def _font_with(characters: frozenset[str]) -> Path | None:
    if characters <= _characters(DEJAVU):
        return DEJAVU
    for path in system_fonts():
        if characters <= _characters(path):
            return path
    return None


@functools.cache
def _characters(path: Path) -> frozenset[str]:
    """The characters of a font; none if it cannot be read or scaled."""
    try:
        ImageFont.truetype(path, 16)
        return frozenset(map(chr, FT2Font(str(path)).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
