from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from model.errors import NoFace, SeveralFaces
from model.vision.face_search import FaceSearch
from model.vision.faces import FaceReader, find_faces
from model.vision.landmarks import LandmarkFinder, Points
from model.vision.patches import EYE_CORNERS, LAYOUTS, MOUTH, PARTS, Region, cut_region
from tests.support.samples import EXPRESSIONS, encoded, no_face, sample_bytes, sample_image, two_faces
from tests.support.shared_data import SHARED, needs_shared_faces

BAR = ((0.0, 0.5), (0.5, 0.5), (0.5, 0.75), (0.0, 0.75))
"""Corners as shares of a region's width and height"""


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
    # Crop the face closely, down to the brows: the detector needs a wider margin than this.
    pixels = np.asarray(sample_image("happiness", 0))
    x_min, y_min, x_max, y_max = finder.find(pixels)[0].extent_px
    searched, compared = {}, list[float]()
    for share in np.arange(0.0, 0.3, 0.02):
        left, right = int(x_min + share * (x_max - x_min)), int(x_max - share * (x_max - x_min))
        top, bottom = int(y_min + share * (y_max - y_min)), int(y_max - share * (y_max - y_min))
        crop = np.ascontiguousarray(pixels[top:bottom, left:right])
        found = finder.find(crop)
        searched[share] = [face.found_after_padding for face in found]
        # A large image is reduced for the second search.
        for face in finder.find(np.asarray(cv2.resize(crop, None, fx=16, fy=16), dtype=np.uint8)):
            if face.found_after_padding and searched[share] == [True]:
                difference = face.points_px / 16 - found[0].points_px
                compared.append(float(abs(difference).mean()) / crop.shape[1])
    assert [True] in searched.values()
    assert compared
    assert max(compared) < 0.06
    finder.close()


def test_a_reduced_image_gives_the_box_of_the_original_and_similar_patches(reader: FaceReader) -> None:
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


def test_two_faces_of_similar_size_are_refused_as_a_support_image(reader: FaceReader) -> None:
    with pytest.raises(SeveralFaces):
        reader.read_single(two_faces())
    assert len(reader.read(two_faces())) == 1
    assert len(reader.read(two_faces(), all_faces=True)) == 2


def test_a_face_with_a_much_smaller_one_beside_it_is_a_support_image(reader: FaceReader) -> None:
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
    face, eyes, lips = LAYOUTS["squares"].regions(landmarks.points_px)
    assert eyes.center_px[1] < face.center_px[1] < lips.center_px[1]
    for region in (face, eyes, lips):
        assert region.height_px == region.width_px
    assert face.width_px > max(eyes.width_px, lips.width_px)
    eye_span = np.linalg.norm(landmarks.points_px[33] - landmarks.points_px[263])
    assert eyes.width_px == pytest.approx(1.4 * eye_span, rel=1e-5)


def inside(region: Region, points_px: Points) -> tuple[Points, Points]:
    """Places (points,) across and along a region, from -1 to 1 within it."""
    right = (np.cos(region.angle_rad), np.sin(region.angle_rad))
    down = (-np.sin(region.angle_rad), np.cos(region.angle_rad))
    offsets = points_px - region.center_px
    return offsets @ right / (region.width_px / 2), offsets @ down / (region.height_px / 2)


@pytest.mark.parametrize("angle", [0, 25])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_tight_patches_show_eyes_and_mouth_and_little_else(
    reader: FaceReader, expression: str, angle: int
) -> None:
    image = sample_image(expression, 0).rotate(angle, resample=Image.Resampling.BICUBIC)
    points = reader.read_single(encoded(image)).landmarks.points_px
    face, eyes, lips = LAYOUTS["tight"].regions(points)
    assert face == LAYOUTS["squares"].regions(points)[0]
    across, along = inside(eyes, points[EYE_CORNERS])
    assert across.min() == pytest.approx(-1 / 1.4, abs=0.02)
    assert across.max() == pytest.approx(1 / 1.4, abs=0.02)
    # The middle of the corners lies 0.06 eye spans below the middle of a region 0.8 eye spans high.
    assert along.mean() == pytest.approx(0.06 / 0.4, abs=0.01)
    assert np.abs(along).max() < 0.5
    assert np.abs(inside(eyes, points[MOUTH])[1]).min() > 1, "the mouth is not in the eye patch"
    span = np.linalg.norm(points[33] - points[263])
    assert (lips.width_px, lips.height_px) == pytest.approx((1.2 * span, 0.8 * span))
    across, along = inside(lips, points[MOUTH])
    assert np.abs(across).max() < 1
    assert np.abs(along).max() < 1
    assert np.abs(inside(lips, points[EYE_CORNERS])[1]).min() > 1, "the eyes are not in the lip patch"


def test_one_decoded_image_gives_the_patches_of_every_layout(reader: FaceReader) -> None:
    search = FaceSearch()
    data = sample_bytes("surprise", 0)
    found = find_faces(data, search)
    face = found.face(found.landmarks[0], LAYOUTS["squares"])
    np.testing.assert_array_equal(face.patches, reader.read_single(data).patches)
    tight = FaceReader(LAYOUTS["tight"])
    face = found.face(found.landmarks[0], LAYOUTS["tight"])
    assert face.patches.shape == (len(PARTS), 48, 48, 3)
    np.testing.assert_array_equal(face.patches, tight.read_single(data).patches)
    search.close()
    tight.close()


@pytest.mark.parametrize("scale", [1, 4])
def test_a_cut_rectangle_keeps_place_and_is_stretched_to_its_patch(scale: int) -> None:
    """At scale 4 the image is reduced before it is warped."""
    image = np.zeros((200 * scale, 300 * scale, 3), dtype=np.uint8)
    region = Region(
        center_px=(150.0 * scale, 100.0 * scale), width_px=96 * scale, height_px=48 * scale, angle_rad=0.4
    )
    # A bar from the left edge to the middle, in the lower half of the region.
    corners = np.array(region.corners_px)
    upper_left, right, down = corners[0], corners[1] - corners[0], corners[3] - corners[0]
    bar = [upper_left + across * right + along * down for across, along in BAR]
    cv2.fillPoly(image, [np.round(np.array(bar) - 0.5).astype(np.int32)], (255, 255, 255))
    patch = cut_region(image, region, 48)[..., 0].astype(float)
    rows, columns = np.nonzero(patch > 127)
    assert (columns.min(), columns.max()) == pytest.approx((0, 23), abs=1.5)
    assert (rows.min(), rows.max()) == pytest.approx((24, 35), abs=2)
    assert (patch > 127).sum() == pytest.approx(24 * 12, rel=0.15)


def test_reduction_does_not_alias() -> None:
    checkers = np.indices((640, 640)).sum(axis=0) % 2 * 255
    image = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    for height, size_px in ((480, 64), (274, 48)):
        region = Region(center_px=(320, 320), width_px=480, height_px=height, angle_rad=0.4)
        patch = cut_region(image, region, size_px)
        assert np.abs(patch.astype(float) - 127.5).max() < 25


@pytest.mark.parametrize("shape", [(1.0, 1.0), (1.4, 0.8)])
def test_a_region_outside_the_image_repeats_its_edge(shape: tuple[float, float]) -> None:
    image = np.full((50, 50, 3), 77, dtype=np.uint8)
    for center in ((-400.0, 25.0), (25.0, 900.0)):
        for side in (30.0, 300.0):
            width, height = side * shape[0], side * shape[1]
            region = Region(center_px=center, width_px=width, height_px=height, angle_rad=0)
            assert (cut_region(image, region, 64) == 77).all()


@needs_shared_faces
def test_faces_are_found_in_97_percent_of_the_real_photos(reader: FaceReader) -> None:
    photos = sorted((SHARED / "faces").glob("*/*.jpg"))
    found = sum(bool(reader.read(photo.read_bytes())) for photo in photos)
    assert found >= 0.97 * len(photos)
