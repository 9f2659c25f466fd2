from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.errors import DatasetInvalid
from model.training.datasets import open_dataset
from model.training.prepare import prepare
from model.training.prepare_blendshapes import UNFINISHED_BLENDSHAPES
from model.training.prepared import BLENDSHAPES, PreparedImages, load_prepared
from model.vision.blendshapes import BlendshapeTeacher
from model.vision.images import decode_image
from tests.support.samples import SAMPLES, no_face, sample_bytes


@pytest.fixture(autouse=True)
def mean_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the Face Landmarker, whose file the project does not ship, by the mean of image and points."""

    def mean(
        self: BlendshapeTeacher, image: npt.NDArray[np.uint8], points_px: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        return np.full(52, image.mean() + points_px.mean(), dtype=np.float32)

    monkeypatch.setattr(BlendshapeTeacher, "__init__", lambda self, task_file: None)
    monkeypatch.setattr(BlendshapeTeacher, "blendshapes", mean)
    monkeypatch.setattr(BlendshapeTeacher, "close", lambda self: None)


@pytest.fixture
def folder(prepared_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(prepared_folder, tmp_path / "out")


def add_blendshapes(
    folder: Path,
    source: Path = SAMPLES,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> npt.NDArray[np.float32]:
    """The blendshapes of all images, after they were added to a prepared folder."""
    with open_dataset("folder", source) as dataset:
        prepare(dataset, folder, task_file=Path("face_landmarker.task"), progress=progress)
    blendshapes: npt.NDArray[np.float32] = np.load(folder / BLENDSHAPES)
    return blendshapes


def test_blendshapes_are_those_of_each_face_in_its_image(folder: Path, prepared: PreparedImages) -> None:
    add_blendshapes(folder)
    blendshapes = load_prepared(folder).blendshapes()
    assert blendshapes.shape == (32, 52)
    points = prepared.landmarks()[..., :2].mean(axis=(1, 2))
    assert len(set(blendshapes[:, 0].tolist())) == 32
    for index in (0, 31):
        image = decode_image((SAMPLES / prepared.sources[index]).read_bytes())
        assert blendshapes[index, 0] == pytest.approx(image.pixels.mean() + points[index], rel=1e-5)
    assert not (folder / UNFINISHED_BLENDSHAPES).exists()


def test_the_error_for_missing_blendshapes_says_how_to_add_them(prepared: PreparedImages) -> None:
    reason = "was prepared without blendshapes: run `csrn prepare` again with --blendshapes FACE_LANDMARKER"
    with pytest.raises(DatasetInvalid, match=reason):
        prepared.blendshapes()


@pytest.mark.parametrize("done", [9, 32])
def test_interrupted_blendshapes_are_resumed(folder: Path, done: int) -> None:
    whole = add_blendshapes(folder)
    (folder / BLENDSHAPES).unlink()
    # The rows of an earlier run differ, so that a row that is made again shows.
    earlier = whole + 1
    earlier[done:] = 0
    with (folder / UNFINISHED_BLENDSHAPES).open("wb") as file:
        np.save(file, earlier)
    load_prepared(folder)
    counts: list[tuple[str, int]] = []
    resumed = add_blendshapes(folder, progress=lambda stage, done, total: counts.append((stage, done)))
    assert counts == [("preparing", 32), *(("blendshapes", number) for number in sorted({done, 32}))]
    np.testing.assert_array_equal(resumed[:done], (whole + 1)[:done])
    np.testing.assert_array_equal(resumed[done:], whole[done:])
    np.testing.assert_array_equal(add_blendshapes(folder), resumed)


def test_images_in_which_no_face_is_found_have_no_blendshapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "happy").mkdir(parents=True)
    for name, data in (("a", no_face()), ("b", sample_bytes("happiness", 0)), ("c", b"damaged")):
        (source / f"happy/{name}.jpg").write_bytes(data)
    assert np.isnan(add_blendshapes(out, source)).all(axis=1).tolist() == [True, False, True]
    assert load_prepared(out).blendshapes().shape == (1, 52)
    monkeypatch.setattr(BlendshapeTeacher, "blendshapes", lambda self, image, points_px: None)
    (out / BLENDSHAPES).unlink()
    assert np.isnan(add_blendshapes(out, source)).all()
