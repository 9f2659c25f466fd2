from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

from model.vision.images import RGBImage
from model.vision.landmarks import LandmarkFinder, Landmarks
from tests.make_expressions import EXPRESSIONS, express, make_expressions
from tests.support.face_warp import LOWER_LID, UPPER_LID

RIGHT_EYE, LEFT_EYE = (33, 133, 159, 145), (362, 263, 386, 374)
"""Two corners, and the middles of the upper and the lower lid"""
MOUTH_CORNERS, INNER_LIPS = (61, 291), (13, 14)
BROWS, EYE_CORNERS = [105, 66, 334, 296], [33, 133, 362, 263]


@pytest.fixture(scope="module")
def portrait() -> RGBImage:
    """The head of a public-domain portrait at twice its size."""
    head = Image.fromarray(skimage.data.astronaut()).crop((100, 0, 356, 256))
    return np.asarray(head.resize((512, 512)))


@pytest.fixture(scope="module")
def face(portrait: RGBImage) -> Landmarks:
    (face,) = LandmarkFinder().find(portrait)
    return face


def test_neutral_is_the_photo(portrait: RGBImage, face: Landmarks) -> None:
    np.testing.assert_array_equal(express(portrait, face, EXPRESSIONS["neutral"], strength=1.0), portrait)


@pytest.mark.parametrize(
    ("expression", "closed"),
    [("wink_left", {"left"}), ("wink_right", {"right"}), ("eyes_closed", {"left", "right"})],
)
def test_a_closed_eye_is_no_longer_visible(
    portrait: RGBImage, face: Landmarks, expression: str, closed: set[str]
) -> None:
    for side in ("right", "left"):
        outline = face.points_px[UPPER_LID[side] + LOWER_LID[side][::-1]].round().astype(np.int32)
        marked = np.asarray(cv2.fillPoly(portrait.copy(), [outline], (0, 255, 0)), dtype=np.uint8)
        expressed = express(marked, face, EXPRESSIONS[expression], strength=1.0)
        before, after = (((of[..., 1] > 150) & (of[..., 0] < 60)).sum() for of in (marked, expressed))
        assert after < 0.03 * before if side in closed else after > 0.7 * before


def test_face_mesh_finds_each_expression(portrait: RGBImage, face: Landmarks) -> None:
    finder, found = LandmarkFinder(), {}
    for name, expression in EXPRESSIONS.items():
        (expressed,) = finder.find(express(portrait, face, expression, strength=1.0))
        found[name] = expressed.points_px / np.linalg.norm(expressed.points_px[33] - expressed.points_px[263])
    finder.close()

    def distance(expression: str, first: int, second: int) -> float:
        return float(np.linalg.norm(found[expression][first] - found[expression][second]))

    def opening(expression: str, eye: tuple[int, int, int, int]) -> float:
        """Height of an eye relative to its width."""
        return distance(expression, *eye[2:]) / distance(expression, *eye[:2])

    def change(expression: str, measure: Callable[[str], float]) -> float:
        return measure(expression) - measure("neutral")

    def left_eye_wider(expression: str) -> float:
        return opening(expression, LEFT_EYE) - opening(expression, RIGHT_EYE)

    def left_corner_raised(expression: str) -> float:
        return float(found[expression][MOUTH_CORNERS[0], 1] - found[expression][MOUTH_CORNERS[1], 1])

    def brow_height(expression: str) -> float:
        return float(found[expression][EYE_CORNERS, 1].mean() - found[expression][BROWS, 1].mean())

    for eye in (RIGHT_EYE, LEFT_EYE):
        assert opening("eyes_closed", eye) < 0.7 * opening("neutral", eye)
    assert change("wink_left", left_eye_wider) < -0.008
    assert change("wink_right", left_eye_wider) > 0.008
    assert distance("mouth_open", *INNER_LIPS) > distance("neutral", *INNER_LIPS) + 0.04
    assert distance("pucker", *MOUTH_CORNERS) < 0.93 * distance("neutral", *MOUTH_CORNERS)
    assert change("lopsided_smile", left_corner_raised) > 0.015
    assert change("brows_raised", brow_height) > 0.04
    assert change("brows_lowered", brow_height) < -0.015


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
