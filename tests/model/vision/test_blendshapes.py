from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetInvalid
from model.vision.blendshapes import BLENDSHAPE_NAMES, BlendshapeTeacher
from model.vision.landmarks import LandmarkFinder
from tests.support.native_threads import native_threads
from tests.support.samples import EXPRESSIONS, sample_image
from tests.support.shared_data import FACE_LANDMARKER, needs_face_landmarker


@pytest.fixture(scope="module")
def teacher() -> Iterator[BlendshapeTeacher]:
    teacher = BlendshapeTeacher(FACE_LANDMARKER)
    yield teacher
    teacher.close()


@needs_face_landmarker
def test_a_smile_and_an_open_mouth_show_in_the_blendshapes(teacher: BlendshapeTeacher) -> None:
    finder, found = LandmarkFinder(), {}
    for expression in EXPRESSIONS:
        pixels = np.asarray(sample_image(expression, 0))
        blendshapes = teacher.blendshapes(pixels, finder.find(pixels)[0].points_px)
        assert blendshapes is not None
        found[expression] = blendshapes
        assert blendshapes.shape == (len(BLENDSHAPE_NAMES),)
        assert blendshapes.dtype == np.float32
        assert 0 <= blendshapes.min() <= blendshapes.max() <= 1
    finder.close()
    strongest = {
        name: max(EXPRESSIONS, key=lambda expression: found[expression][BLENDSHAPE_NAMES.index(name)])
        for name in ("mouthSmileLeft", "mouthSmileRight", "jawOpen")
    }
    assert [*strongest.values()] == ["happiness", "happiness", "surprise"]


@needs_face_landmarker
def test_the_names_are_in_the_order_of_the_face_landmarker(teacher: BlendshapeTeacher) -> None:
    categories = teacher._detect(np.asarray(sample_image("happiness", 0))).face_blendshapes[0]
    assert tuple(category.category_name for category in categories) == BLENDSHAPE_NAMES


@needs_face_landmarker
def test_without_a_face_there_are_no_blendshapes(teacher: BlendshapeTeacher) -> None:
    empty = np.full((100, 100, 3), 90, dtype=np.uint8)
    points = np.random.default_rng(0).uniform(20, 80, (468, 2)).astype(np.float32)
    assert teacher.blendshapes(empty, points) is None


@pytest.mark.parametrize("content", [b"", b"not a bundle"])
def test_a_file_that_is_not_a_bundle_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.task").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=r"other.task is not a Face Landmarker bundle"):
        BlendshapeTeacher(tmp_path / "other.task")


@needs_face_landmarker
def test_finding_blendshapes_starts_no_threads(teacher: BlendshapeTeacher) -> None:
    threads = native_threads()
    another = BlendshapeTeacher(FACE_LANDMARKER)
    assert native_threads() == threads
    another.close()
