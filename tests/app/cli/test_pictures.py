"""`csrn classify --save`: where the pictures go, and what is drawn on them."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image

from app.cli import fonts
from app.cli.fonts import DEJAVU, drawable
from app.cli.pictures import UNKNOWN_COLOUR, label_colours, picture_paths, save_picture
from csrn_client.schemas import Box, ClassScore, Face, Parts, Result
from tests.support.samples import encoded

BOX = Box(x_min=100, y_min=140, x_max=220, y_max=300)
WIDE = "wide " * 12
COLOURS = label_colours(["笑顔", "calm", WIDE])


def result(*predicted: str | None) -> Result:
    """A result with one face for each prediction, all in the same box."""
    parts = Parts(face=0.5, eyes=0.5, lips=0.5, prototype=0.5)
    score = ClassScore(label="calm", score=0.5, parts=parts, nearest_example_id="e")
    faces = [Face(box=BOX, predicted=label, scores=[score], margin=None) for label in predicted]
    return Result(index=0, filename="f", faces=faces)


def saved(tmp_path: Path, image: bytes, shown: Result, name: str = "f.png") -> np.ndarray:
    """The pixels of a picture."""
    (tmp_path / name).write_bytes(image)
    save_picture(tmp_path / name, shown, tmp_path / "out" / name, COLOURS)
    with Image.open(tmp_path / "out" / name) as picture:
        return np.asarray(picture.convert("RGB"))


def has_colour(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Which pixels have the colour."""
    wanted = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    near: np.ndarray = np.abs(pixels.astype(int) - wanted).max(axis=-1) < 8
    return near


@pytest.mark.parametrize("label", ["calm", "笑顔", None, WIDE])
def test_a_box_and_its_label_have_the_colour_of_the_class(tmp_path: Path, label: str | None) -> None:
    pixels = saved(tmp_path, encoded(Image.new("RGB", (400, 400), "white")), result(label))
    assert pixels.shape == (400, 400, 3)
    coloured = has_colour(pixels, UNKNOWN_COLOUR if label is None else COLOURS[label])
    assert coloured[200, 100:103].any()
    assert coloured[298:301, 160].any()
    assert not coloured[150:290, 110:210].any()
    # The label is above the box.
    assert coloured[:138].sum() > 300


def test_the_orientation_of_a_photo_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(Image.new("RGB", (300, 400), "white"), "JPEG", exif=exif)
    pixels = saved(tmp_path, photo, result("calm"), "f.jpg")
    assert pixels.shape == (300, 400, 3)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG"])
def test_a_tiny_image_is_enlarged_and_keeps_its_format(tmp_path: Path, image_format: str) -> None:
    name = f"f.{image_format.lower()}"
    pixels = saved(tmp_path, encoded(Image.new("RGB", (50, 40)), image_format), result(), name)
    assert pixels.shape == (200, 250, 3)
    with Image.open(tmp_path / "out" / name) as picture:
        assert picture.format == image_format
    assert has_colour(pixels, UNKNOWN_COLOUR).sum() > 1000, "it says that there is no face"


def test_pictures_have_the_names_of_their_images(tmp_path: Path) -> None:
    one, other = tmp_path / "a" / "one.jpg", tmp_path / "b" / "other.jpg"
    out = tmp_path / "out"
    assert picture_paths([one, other, one], out) == {one: out / "one.jpg", other: out / "other.jpg"}


def test_images_of_one_name_keep_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [tmp_path / "a/1.jpg", Path("b/1.jpg"), Path("b/c/2.jpg")]
    assert list(picture_paths(files, Path("out")).values()) == [
        Path("out/a/1.jpg"),
        Path("out/b/1.jpg"),
        Path("out/b/c/2.jpg"),
    ]


def test_a_font_of_the_machine_is_used_for_characters_that_dejavu_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = Path(matplotlib.get_data_path()) / "fonts/ttf/STIXSizOneSymReg.ttf"
    lacking = set(FT2Font(str(other)).get_charmap()) - set(FT2Font(str(DEJAVU)).get_charmap())
    label = chr(min(lacking))
    monkeypatch.setattr(fonts, "system_fonts", lambda: [Path("/nowhere.ttf"), Path(__file__), other])
    text, font = drawable(label, 20)
    assert (text, Path(str(font.path))) == (label, other)


def test_characters_that_no_font_has_are_written_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: [])
    text, font = drawable("笑 smile é", 20)
    assert (text, Path(str(font.path))) == (r"\u7b11 smile é", DEJAVU)
