from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from model.vision.images import RGBImage
from model.vision.landmarks import LandmarkFinder, Points
from tests.make_expressions import EXPRESSIONS, express, make_expressions
from tests.support.portrait import face_crop
from tests.support.slits import LOWER_LID, UPPER_LID, Side

SIDES: tuple[Side, ...] = ("right", "left")


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


def right_eye_opening(points: Points) -> float:
    """Height of the eye in eye widths."""
    return _distance(points, 159, 145) / _distance(points, 33, 133)


def left_eye_opening(points: Points) -> float:
    return _distance(points, 386, 374) / _distance(points, 362, 263)


def left_minus_right_opening(points: Points) -> float:
    return left_eye_opening(points) - right_eye_opening(points)


def lip_gap(points: Points) -> float:
    return _distance(points, 13, 14)


def mouth_width(points: Points) -> float:
    return _distance(points, 61, 291)


def left_mouth_corner_height(points: Points) -> float:
    """Above the right corner."""
    return float(points[61, 1] - points[291, 1])


def brow_height(points: Points) -> float:
    """Above the corners of the eyes."""
    return float(points[[33, 133, 362, 263], 1].mean() - points[[105, 66, 334, 296], 1].mean())


@pytest.mark.parametrize(
    ("expression", "measure", "least", "most"),
    [
        ("eyes_closed", right_eye_opening, -1, -0.05),
        ("eyes_closed", left_eye_opening, -1, -0.05),
        ("wink_left", left_minus_right_opening, -1, -0.008),
        ("wink_right", left_minus_right_opening, 0.008, 1),
        ("mouth_open", lip_gap, 0.05, 1),
        ("pucker", mouth_width, -1, -0.03),
        ("lopsided_smile", left_mouth_corner_height, 0.015, 1),
        ("brows_raised", brow_height, 0.04, 1),
        ("brows_lowered", brow_height, -1, -0.015),
    ],
)
def test_an_expression_moves_the_landmarks_that_facemesh_finds(
    found: dict[str, Points],
    expression: str,
    measure: Callable[[Points], float],
    least: float,
    most: float,
) -> None:
    assert least < measure(found[expression]) - measure(found["neutral"]) < most


def test_the_neutral_expression_is_the_photo(portrait: RGBImage) -> None:
    (face,) = LandmarkFinder().find(portrait)
    np.testing.assert_array_equal(express(portrait, face, EXPRESSIONS["neutral"], strength=1.0), portrait)


@pytest.mark.parametrize(
    ("expression", "closed"),
    [("wink_left", {"left"}), ("wink_right", {"right"}), ("eyes_closed", {"left", "right"})],
)
def test_a_closed_eye_is_covered(portrait: RGBImage, expression: str, closed: set[str]) -> None:
    def red_pixels(image: RGBImage) -> int:
        return int(((image[..., 0] > 150) & (image[..., 1] < 60)).sum())

    (face,) = LandmarkFinder().find(portrait)
    for side in SIDES:
        outline = face.points_px[UPPER_LID[side] + LOWER_LID[side][::-1]].round().astype(np.int32)
        marked: RGBImage = cv2.fillPoly(portrait.copy(), [outline], (255, 0, 0))  # type: ignore[assignment]
        before = red_pixels(marked)
        after = red_pixels(express(marked, face, EXPRESSIONS[expression], strength=1.0))
        assert after < 0.03 * before if side in closed else after > 0.7 * before


def test_each_photo_with_a_face_gives_the_same_files_every_time(
    portrait: RGBImage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(portrait).resize((150, 150)).save(photos / "ada.jpg")
    Image.new("RGB", (64, 64)).save(photos / "wall.png")
    (photos / "notes.txt").write_text("no photo")
    written = []
    for out in (tmp_path / "first", tmp_path / "second"):
        make_expressions(photos, out)
        assert capsys.readouterr().out == "wall.png: no face found, skipped\n"
        written.append({str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.*")})
    assert written[0] == written[1]
    assert written[0].keys() == {f"{expression}/ada.jpg" for expression in EXPRESSIONS}
