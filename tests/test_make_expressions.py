from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from model.vision.images import RGBImage
from model.vision.landmarks import LandmarkFinder, Landmarks, Points
from tests.make_expressions import EXPRESSIONS, express, make_expressions
from tests.support.portrait import face_crop
from tests.support.slits import LOWER_LID, UPPER_LID, Side

SIDES: tuple[Side, ...] = ("right", "left")
RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)
"""Two corners, and the middles of the upper and the lower lid"""
MOUTH_CORNERS, INNER_LIPS = (61, 291), (13, 14)
BROWS, EYE_CORNERS = [105, 66, 334, 296], [33, 133, 362, 263]


@pytest.fixture(scope="module")
def portrait() -> RGBImage:
    return face_crop()[0]


@pytest.fixture(scope="module")
def face(portrait: RGBImage) -> Landmarks:
    (face,) = LandmarkFinder().find(portrait)
    return face


@pytest.fixture(scope="module")
def found(portrait: RGBImage, face: Landmarks) -> dict[str, Points]:
    """The landmarks that FaceMesh finds in each expression of the portrait, in eye spans."""
    finder, points = LandmarkFinder(), {}
    for name, expression in EXPRESSIONS.items():
        (expressed,) = finder.find(express(portrait, face, expression, strength=1.0))
        points[name] = expressed.points_px / np.float32(_distance(expressed.points_px, 33, 263))
    finder.close()
    return points


def _distance(points: Points, first: int, second: int) -> float:
    return float(np.linalg.norm(points[first] - points[second]))


def _opening(points: Points, eye: tuple[int, int, int, int]) -> float:
    """Height of an eye relative to its width."""
    return _distance(points, eye[2], eye[3]) / _distance(points, eye[0], eye[1])


def _brow_height(points: Points) -> float:
    return float(points[EYE_CORNERS, 1].mean() - points[BROWS, 1].mean())


def _marked_pixels(image: npt.NDArray[np.generic]) -> int:
    red, green = np.asarray(image)[..., 0], np.asarray(image)[..., 1]
    return int(((red > 150) & (green < 60)).sum())


def test_neutral_is_the_photo(portrait: RGBImage, face: Landmarks) -> None:
    np.testing.assert_array_equal(express(portrait, face, EXPRESSIONS["neutral"], strength=1.0), portrait)


@pytest.mark.parametrize(
    ("expression", "closed"),
    [("wink_left", {"left"}), ("wink_right", {"right"}), ("eyes_closed", {"left", "right"})],
)
def test_a_closed_eye_is_no_longer_visible(
    portrait: RGBImage, face: Landmarks, expression: str, closed: set[str]
) -> None:
    for side in SIDES:
        outline = face.points_px[UPPER_LID[side] + LOWER_LID[side][::-1]].round().astype(np.int32)
        marked = cv2.fillPoly(portrait.copy(), [outline], (255, 0, 0))
        before = _marked_pixels(marked)
        after = _marked_pixels(express(marked, face, EXPRESSIONS[expression], strength=1.0))  # type: ignore[arg-type]
        assert after < 0.03 * before if side in closed else after > 0.7 * before


def test_face_mesh_finds_each_expression(found: dict[str, Points]) -> None:
    def left_minus_right(expression: str) -> float:
        return _opening(found[expression], LEFT_EYE) - _opening(found[expression], RIGHT_EYE)

    def left_corner_raised(expression: str) -> float:
        return float(found[expression][MOUTH_CORNERS[0], 1] - found[expression][MOUTH_CORNERS[1], 1])

    neutral = found["neutral"]
    for eye in (RIGHT_EYE, LEFT_EYE):
        assert _opening(found["eyes_closed"], eye) < 0.7 * _opening(neutral, eye)
    assert left_minus_right("wink_left") < left_minus_right("neutral") - 0.008
    assert left_minus_right("wink_right") > left_minus_right("neutral") + 0.008
    assert _distance(found["mouth_open"], *INNER_LIPS) > _distance(neutral, *INNER_LIPS) + 0.05
    assert _distance(found["pucker"], *MOUTH_CORNERS) < 0.93 * _distance(neutral, *MOUTH_CORNERS)
    assert left_corner_raised("lopsided_smile") > left_corner_raised("neutral") + 0.015
    assert _brow_height(found["brows_raised"]) > _brow_height(neutral) + 0.04
    assert _brow_height(found["brows_lowered"]) < _brow_height(neutral) - 0.015


def test_files_repeat_exactly_and_photos_without_a_face_are_skipped_and_named(
    portrait: RGBImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(portrait).resize((150, 150)).save(photos / "ada.jpg")
    Image.new("RGB", (64, 64)).save(photos / "wall.png")
    (photos / "notes.txt").write_text("no photo")
    outputs = []
    for out in (tmp_path / "first", tmp_path / "second"):
        make_expressions(photos, out)
        assert capsys.readouterr().out == "wall.png: no face found, skipped\n"
        outputs.append({path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*.jpg")})
    assert sorted(outputs[0]) == sorted(f"{expression}/ada.jpg" for expression in EXPRESSIONS)
    assert outputs[0] == outputs[1]
