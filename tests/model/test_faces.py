from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from model.errors import NoFace, SeveralFaces
from model.faces import FaceReader
from model.landmarks import LandmarkFinder
from model.patches import PARTS, Square, cut_square, face_regions
from tests.conftest import (
    EXPRESSIONS,
    SHARED,
    encoded,
    needs_shared_faces,
    no_face,
    sample_bytes,
    sample_image,
    two_faces,
)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_sample_shows_one_face(reader: FaceReader, expression: str) -> None:
    for index in range(8):
        face = reader.read_single(sample_bytes(expression, index))
        assert face.patches.shape == (len(PARTS), 64, 64, 3)
        assert 0 <= face.box_px.x_min < face.box_px.x_max <= 256
        assert 0 <= face.box_px.y_min < face.box_px.y_max <= 256


@pytest.mark.parametrize("side_px", [48, 96, 200])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_face_that_fills_the_frame_is_found(reader: FaceReader, expression: str, side_px: int) -> None:
    image = sample_image(expression, 0)
    box = reader.read_single(encoded(image)).box_px
    tight = image.crop((int(box.x_min), int(box.y_min), int(box.x_max), int(box.y_max)))
    assert len(reader.read(encoded(tight.resize((side_px, side_px))))) == 1


def test_a_face_missed_at_first_is_found_after_padding() -> None:
    finder = LandmarkFinder()
    # Cut close, down to the brows: the detector wants more around a face than this.
    pixels = np.asarray(sample_image("happiness", 0))
    x_min, y_min, x_max, y_max = finder.find(pixels)[0].extent_px
    searched = {}
    for share in np.arange(0.0, 0.3, 0.02):
        left, right = int(x_min + share * (x_max - x_min)), int(x_max - share * (x_max - x_min))
        top, bottom = int(y_min + share * (y_max - y_min)), int(y_max - share * (y_max - y_min))
        found = finder.find(np.ascontiguousarray(pixels[top:bottom, left:right]))
        searched[share] = [face.found_after_padding for face in found]
    assert [True] in searched.values()
    finder.close()


def test_a_reduced_image_gives_the_box_of_the_original_and_like_patches(reader: FaceReader) -> None:
    original = sample_image("surprise", 0)
    small = reader.read_single(encoded(original.resize((1300, 1300)), "JPEG", quality=95))
    large = reader.read_single(encoded(original.resize((2600, 2600)), "JPEG", quality=95))
    for side in ("x_min", "y_min", "x_max", "y_max"):
        assert getattr(large.box_px, side) == pytest.approx(2 * getattr(small.box_px, side), abs=10)
    assert large.landmarks.extent_px[2] == pytest.approx(large.box_px.x_max)
    difference = large.patches.astype(int) - small.patches.astype(int)
    assert abs(difference).mean() < 4


def test_an_image_without_a_face_has_none(reader: FaceReader) -> None:
    assert reader.read(no_face()) == []
    with pytest.raises(NoFace):
        reader.read_single(no_face())


def test_two_faces_of_like_size_are_no_support_image(reader: FaceReader) -> None:
    with pytest.raises(SeveralFaces):
        reader.read_single(two_faces())
    assert len(reader.read(two_faces())) == 1
    assert len(reader.read(two_faces(), all_faces=True)) == 2


def test_a_face_alone_beside_a_much_smaller_one_is_a_support_image(reader: FaceReader) -> None:
    canvas = Image.new("RGB", (640, 512), (128, 128, 128))
    canvas.paste(sample_image("anger", 0).resize((512, 512)), (0, 0))
    canvas.paste(sample_image("happiness", 0).resize((128, 128)), (512, 0))
    faces = reader.read(encoded(canvas), all_faces=True)
    areas = [face.landmarks.area_px for face in faces]
    assert areas == sorted(areas, reverse=True)
    assert reader.read_single(encoded(canvas)).box_px.x_max < 512


@pytest.mark.parametrize("angle", [-30, 25])
def test_in_plane_rotation_is_removed(reader: FaceReader, angle: float) -> None:
    image = sample_image("happiness", 0)
    upright = reader.read_single(encoded(image)).patches.astype(float)
    turned_image = image.resize((512, 512)).rotate(angle, resample=Image.Resampling.BICUBIC)
    turned = reader.read_single(encoded(turned_image)).patches.astype(float)
    for part in range(len(PARTS)):
        likeness = np.corrcoef(upright[part].ravel(), turned[part].ravel())[0, 1]
        assert likeness > 0.9, PARTS[part]


def test_landmarks_do_not_depend_on_the_shape_of_the_image() -> None:
    finder = LandmarkFinder()
    turned = np.asarray(sample_image("happiness", 0).rotate(30))
    wide = np.full((256, 640, 3), 90, dtype=np.uint8)
    wide[:, 192:448] = turned
    square = finder.find(np.ascontiguousarray(turned))[0].points_px
    in_wide = finder.find(wide)[0].points_px - (192, 0)
    assert np.abs(in_wide - square).mean() < 2.0
    finder.close()


def test_regions_are_squares_centred_on_their_part(reader: FaceReader) -> None:
    landmarks = reader.read_single(sample_bytes("surprise", 0)).landmarks
    face, eyes, lips = face_regions(landmarks.points_px)
    assert eyes.center_px[1] < face.center_px[1] < lips.center_px[1]
    assert face.side_px > max(eyes.side_px, lips.side_px)
    eye_span = np.linalg.norm(landmarks.points_px[33] - landmarks.points_px[263])
    assert eyes.side_px == pytest.approx(1.4 * eye_span, rel=1e-5)


def test_a_cut_square_keeps_place_and_scale() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    cv2.circle(image, (150, 100), 20, (255, 255, 255), -1)
    square = Square(center_px=(150.5, 100.5), side_px=128, angle_rad=0.3)
    patch = cut_square(image, square)[..., 0].astype(float)
    rows, columns = np.nonzero(patch > 127)
    assert rows.mean() == pytest.approx(31.5, abs=0.3)
    assert columns.mean() == pytest.approx(31.5, abs=0.3)
    # 128 image pixels fall on 64: the radius of 20 halves, as wide as high.
    assert np.ptp(rows) == pytest.approx(20, abs=1.5)
    assert np.ptp(columns) == pytest.approx(20, abs=1.5)


def test_reduction_does_not_alias() -> None:
    checkers = np.indices((640, 640)).sum(axis=0) % 2 * 255
    image = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    patch = cut_square(image, Square(center_px=(320, 320), side_px=480, angle_rad=0.4))
    assert np.abs(patch.astype(float) - 127.5).max() < 25


def test_a_square_outside_the_image_repeats_its_edge() -> None:
    image = np.full((50, 50, 3), 77, dtype=np.uint8)
    for center in ((-400.0, 25.0), (25.0, 900.0)):
        for side in (30.0, 300.0):
            patch = cut_square(image, Square(center_px=center, side_px=side, angle_rad=0))
            assert (patch == 77).all()


@needs_shared_faces
def test_faces_are_found_in_97_percent_of_the_real_photos(reader: FaceReader) -> None:
    photos = sorted((SHARED / "faces").glob("*/*.jpg"))
    found = sum(bool(reader.read(photo.read_bytes())) for photo in photos)
    assert found >= 0.97 * len(photos)
