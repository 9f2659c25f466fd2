from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from model.errors import SeveralFaces
from model.vision import face_search
from model.vision.face_detector import TILE_PX, Candidate, FaceDetector
from model.vision.face_search import MAX_CANDIDATES, MAX_FACES, MAX_OF_LEVEL, FaceSearch, level_scales, tiles
from model.vision.faces import FaceReader
from model.vision.landmarks import LandmarkFinder
from tests.support.group_photos import group_photo, textures, with_small_face
from tests.support.samples import encoded, sample_image

PLACES = {"corner": (0.0, 0.0), "opposite corner": (1.0, 1.0), "middle": (0.5, 0.5), "anywhere": (0.33, 0.71)}


@pytest.fixture(scope="module")
def search() -> Iterator[FaceSearch]:
    search = FaceSearch()
    yield search
    search.close()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("size_px", [(1920, 1080), (1280, 1280), (2000, 3000), (800, 600), (4000, 500)])
def test_a_face_of_4_percent_of_the_longer_side_is_found_where_it_is(
    reader: FaceReader, size_px: tuple[int, int], place: str
) -> None:
    photo, box = with_small_face(reader, size_px, 0.04 * max(size_px), PLACES[place])
    (face,) = reader.read(encoded(photo, "JPEG", quality=92))
    for side in ("x_min", "y_min", "x_max", "y_max"):
        # Pixels of the box against the face's own size, 5 %.
        assert getattr(face.box_px, side) == pytest.approx(getattr(box, side), abs=0.002 * max(size_px) + 0.5)
    assert len(reader.read(encoded(photo), all_faces=True)) == 1


@pytest.mark.parametrize("size_px", [(160, 120), (350, 350), (640, 480)])
def test_a_face_of_32_pixels_is_found(reader: FaceReader, size_px: tuple[int, int]) -> None:
    photo, _ = with_small_face(reader, size_px, 32, (0.7, 0.4))
    assert len(reader.read(encoded(photo))) == 1


def test_a_face_is_found_at_every_place_relative_to_the_tiles(reader: FaceReader, search: FaceSearch) -> None:
    missed = []
    for step in range(12):
        place = (0.4 + step / 120, 0.4 + step * 5 % 12 / 120)
        photo, _ = with_small_face(reader, (1024, 576), 41, place)
        if len(search.find(np.asarray(photo))) != 1:
            missed.append(place)
    assert not missed


@pytest.mark.parametrize(("columns", "rows", "cell_px"), [(10, 5, 120), (8, 7, 150), (5, 10, 300)])
def test_everyone_in_a_group_photo_is_found(
    reader: FaceReader, columns: int, rows: int, cell_px: int
) -> None:
    faces = reader.read(group_photo(columns, rows, cell_px), all_faces=True)
    cells = {
        (
            int((face.box_px.x_min + face.box_px.x_max) / 2 // cell_px),
            int((face.box_px.y_min + face.box_px.y_max) / 2 // cell_px),
        )
        for face in faces
    }
    assert len(cells) == len(faces) == columns * rows
    areas = [face.landmarks.area_px for face in faces]
    assert areas == sorted(areas, reverse=True)


def test_no_more_than_the_largest_faces_are_kept(reader: FaceReader) -> None:
    assert len(reader.read(group_photo(11, 7, 120), all_faces=True)) == MAX_FACES


def test_images_without_a_face_have_none(search: FaceSearch) -> None:
    for name, image in textures().items():
        assert search.find(np.asarray(image)) == [], name
        assert search.find(np.asarray(image), others_from=0) == [], name


def test_a_support_image_with_one_small_face_is_accepted_and_with_two_refused(reader: FaceReader) -> None:
    photo, box = with_small_face(reader, (1600, 1200), 64, (0.2, 0.3))
    assert reader.read_single(encoded(photo)).box_px.x_min == pytest.approx(box.x_min, abs=4)
    other, _ = with_small_face(reader, (1600, 1200), 64, (0.8, 0.6))
    photo.paste(other.crop((800, 0, 1600, 1200)), (800, 0))
    with pytest.raises(SeveralFaces):
        reader.read_single(encoded(photo))


def test_a_support_image_whose_face_hides_a_rival_from_face_mesh_is_refused(reader: FaceReader) -> None:
    photo, _ = with_small_face(reader, (1000, 1000), 240, (0.1, 0.1))
    other, _ = with_small_face(reader, (1000, 1000), 140, (0.9, 0.9))
    photo.paste(other.crop((500, 500, 1000, 1000)), (500, 500))
    assert len(reader.read(encoded(photo), all_faces=True)) == 2
    with pytest.raises(SeveralFaces):
        reader.read_single(encoded(photo))


def test_one_large_face_is_found_without_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: FaceDetector, tile: object) -> None:
        raise AssertionError

    monkeypatch.setattr(FaceDetector, "detect", fail)
    search, finder = FaceSearch(), LandmarkFinder()
    portrait = np.asarray(sample_image("anger", 0))
    (face,) = search.find(portrait)
    np.testing.assert_array_equal(face.points_px, finder.find(portrait)[0].points_px)
    # An image of 48 px, as of FER2013, has no room for a face that FaceMesh is too coarse to find.
    assert search.find(np.zeros((48, 48, 3), dtype=np.uint8)) == []
    search.close()
    finder.close()


def test_a_video_is_searched_by_face_mesh_alone(monkeypatch: pytest.MonkeyPatch, reader: FaceReader) -> None:
    photo, _ = with_small_face(reader, (800, 600), 32, (0.5, 0.5))
    monkeypatch.setattr(face_search, "FaceDetector", None)
    search = FaceSearch(tracking=True)
    assert search.find(np.asarray(photo)) == []
    search.close()


@pytest.mark.parametrize(
    ("others_from", "most"), [(0, MAX_CANDIDATES), (0.4, 3 * MAX_OF_LEVEL), (math.inf, 3 * MAX_OF_LEVEL)]
)
def test_the_searched_places_of_an_image_are_bounded(
    monkeypatch: pytest.MonkeyPatch, search: FaceSearch, others_from: float, most: int
) -> None:
    searched = []
    monkeypatch.setattr(FaceDetector, "detect", lambda self, tile: full_of_candidates())
    monkeypatch.setattr(face_search, "_is_confirmed", lambda *_: True)
    monkeypatch.setattr(LandmarkFinder, "find_at", lambda *place: searched.append(place))
    noise = np.random.default_rng(0).integers(0, 256, (1280, 1280, 3)).astype(np.uint8)
    search.find(noise, others_from=others_from)
    # Three levels, of which the coarsest has few tiles.
    assert most / 2 < len(searched) <= most


def test_places_outside_the_image_are_not_searched(
    monkeypatch: pytest.MonkeyPatch, search: FaceSearch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    outside = [Candidate(x=x, y=y, side_px=40, score=0.9) for x in (-900, 60, 900) for y in (-900, 900)]
    detect = FaceDetector.detect
    monkeypatch.setattr(
        FaceDetector,
        "detect",
        lambda self, tile: detect(self, tile) + outside if tile.shape[0] == TILE_PX else detect(self, tile),
    )
    assert search.find(noise, others_from=0) == []


def test_a_small_face_is_found_although_the_background_looks_like_faces(search: FaceSearch) -> None:
    missed = []
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        photo = Image.fromarray(noise).resize((1000, 1000), Image.Resampling.BICUBIC)
        photo.paste(sample_image("happiness", 0).resize((70, 70)), (610, 300))
        found = search.find(np.asarray(photo))
        if not (found and found[0].contains(645, 335)):
            missed.append(seed)
    assert not missed


def full_of_candidates() -> list[Candidate]:
    return [Candidate(x=x, y=y, side_px=20, score=0.5) for x in (20, 60, 100) for y in (20, 60, 100)]


@pytest.mark.parametrize("shape", [(128, 128), (577, 1025), (40, 900), (129, 1), (1000, 1000)])
def test_tiles_cover_the_image(shape: tuple[int, int]) -> None:
    image = np.ones((*shape, 3), dtype=np.uint8)
    covered = np.zeros(shape, dtype=bool)
    count = 0
    for left, top, tile in tiles(image):
        assert tile.shape == (TILE_PX, TILE_PX, 3)
        covered[max(top, 0) : top + TILE_PX, max(left, 0) : left + TILE_PX] = True
        count += 1
    assert covered.all()
    assert count <= 121


def test_the_levels_reach_from_the_smallest_face_to_those_of_face_mesh() -> None:
    assert level_scales(np.zeros((1000, 800, 3), dtype=np.uint8), 40) == pytest.approx([1, 0.4, 0.16])
    assert level_scales(np.zeros((48, 48, 3), dtype=np.uint8), 32) == []
