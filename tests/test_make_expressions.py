from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.vision.images import RGBImage
from model.vision.landmarks import LandmarkFinder, Points
from tests.make_expressions import EXPRESSIONS, express, make_expressions
from tests.support.portrait import face_crop
from tests.support.slits import LOWER_LID, UPPER_LID, Side

SIDES: tuple[Side, ...] = ("right", "left")
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)
"""Two corners, the middles of the upper and the lower lid"""
MOUTH_CORNERS, INNER_LIPS = (61, 291), (13, 14)
BROWS, EYE_CORNERS = [105, 66, 334, 296], [33, 133, 362, 263]


@pytest.fixture(scope="module")
def portrait() -> RGBImage:
    return face_crop()[0]


@pytest.fixture(scope="module")
def found(portrait: RGBImage) -> dict[str, Points]:
    """The landmarks that FaceMesh finds in each expression of the portrait, in eye spans."""
    finder = LandmarkFinder()
    (face,) = finder.find(portrait)
    points = {}
    for name, expression in EXPRESSIONS.items():
        (expressed,) = finder.find(express(portrait, face, expression, strength=1.0))
        points[name] = expressed.points_px / np.float32(_distance(expressed.points_px, 33, 263))
    finder.close()
    return points


def _distance(points: Points, first: int, second: int) -> float:
    return float(np.linalg.norm(points[first] - points[second]))


def _opening(points: Points, eye: tuple[int, int, int, int]) -> float:
    """Height of an eye in its widths."""
    return _distance(points, eye[2], eye[3]) / _distance(points, eye[0], eye[1])


def _brow_height(points: Points) -> float:
    return float(points[EYE_CORNERS, 1].mean() - points[BROWS, 1].mean())


def test_neutral_is_the_photo(portrait: RGBImage) -> None:
    (face,) = LandmarkFinder().find(portrait)
    np.testing.assert_array_equal(express(portrait, face, EXPRESSIONS["neutral"], strength=1.0), portrait)


@pytest.mark.parametrize(
    ("expression", "closed"),
    [("wink_left", {"left"}), ("wink_right", {"right"}), ("eyes_closed", {"left", "right"})],
)
def test_nothing_is_left_of_what_lay_between_closed_lids(
    portrait: RGBImage, expression: str, closed: set[str]
) -> None:
    (face,) = LandmarkFinder().find(portrait)
    for side in SIDES:
        outline = face.points_px[UPPER_LID[side] + LOWER_LID[side][::-1]].round().astype(np.int32)
        marked = cv2.fillPoly(portrait.copy(), [outline], (255, 0, 0))
        before = _marked_pixels(marked)
        after = _marked_pixels(express(marked, face, EXPRESSIONS[expression], strength=1.0))  # type: ignore[arg-type]
        assert after < 0.03 * before if side in closed else after > 0.7 * before


def _marked_pixels(image: npt.NDArray[np.generic]) -> int:
    red, green = np.asarray(image)[..., 0], np.asarray(image)[..., 1]
    return int(((red > 150) & (green < 60)).sum())


def test_closed_eyes_are_found_less_open(found: dict[str, Points]) -> None:
    for eye in (RIGHT_EYE, LEFT_EYE):
        assert _opening(found["eyes_closed"], eye) < 0.7 * _opening(found["neutral"], eye)


def test_the_winking_eye_is_found_less_open_than_the_other(found: dict[str, Points]) -> None:
    def left_minus_right(expression: str) -> float:
        return _opening(found[expression], LEFT_EYE) - _opening(found[expression], RIGHT_EYE)

    assert left_minus_right("wink_left") < left_minus_right("neutral") - 0.008
    assert left_minus_right("wink_right") > left_minus_right("neutral") + 0.008


def test_an_open_mouth_is_found_open(found: dict[str, Points]) -> None:
    gap = _distance(found["mouth_open"], *INNER_LIPS)
    assert gap > _distance(found["neutral"], *INNER_LIPS) + 0.05


def test_a_pucker_makes_the_mouth_narrow(found: dict[str, Points]) -> None:
    width = _distance(found["pucker"], *MOUTH_CORNERS)
    assert width < 0.93 * _distance(found["neutral"], *MOUTH_CORNERS)


def test_a_lopsided_smile_raises_the_left_corner_of_the_mouth(found: dict[str, Points]) -> None:
    right, left = MOUTH_CORNERS

    def raised(points: Points) -> float:
        return float(points[right, 1] - points[left, 1])

    assert raised(found["lopsided_smile"]) > raised(found["neutral"]) + 0.015


def test_brows_move_up_and_down(found: dict[str, Points]) -> None:
    neutral = _brow_height(found["neutral"])
    assert _brow_height(found["brows_raised"]) > neutral + 0.04
    assert _brow_height(found["brows_lowered"]) < neutral - 0.015


def test_photos_without_a_face_are_skipped_and_named(
    portrait: RGBImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.fromarray(portrait).resize((200, 200)).save(photos / "ada.jpg")
    Image.new("RGB", (64, 64)).save(photos / "wall.png")
    (photos / "notes.txt").write_text("no photo")

    make_expressions(photos, out)

    assert capsys.readouterr().out == "wall.png: no face found, skipped\n"
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))
    assert written == sorted(f"{expression}/ada.jpg" for expression in EXPRESSIONS)


def test_the_same_photo_gives_the_same_files(portrait: RGBImage, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(portrait).resize((150, 150)).save(photos / "ada.jpg")
    for run in ("first", "second"):
        make_expressions(photos, tmp_path / run)
    for expression in EXPRESSIONS:
        first, second = (tmp_path / run / expression / "ada.jpg" for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
