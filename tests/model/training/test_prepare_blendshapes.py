from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from model.errors import DatasetInvalid
from model.training import prepare_blendshapes as module
from model.training.datasets import open_dataset
from model.training.prepare import prepare
from model.training.prepare_blendshapes import UNFINISHED_BLENDSHAPES, prepare_blendshapes
from model.training.prepared import BLENDSHAPES, PreparedImages, load_prepared
from model.vision.blendshapes import BLENDSHAPE_NAMES
from model.vision.images import decode_image
from tests.support.samples import SAMPLES, no_face, sample_bytes
from tests.support.shared_data import FACE_LANDMARKER, needs_face_landmarker

ROW_BYTES = 52 * 4
TASK = Path("face_landmarker.task")


class MeanTeacher:
    """Stands in for the Face Landmarker, whose file the project does not ship."""

    def __init__(self, task_file: Path) -> None:
        assert task_file == TASK

    def blendshapes(
        self, image: npt.NDArray[np.uint8], points_px: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32] | None:
        """The mean of the image and of the points; nothing for dark images."""
        if image.mean() < 10:
            return None
        return np.full(52, image.mean() + points_px.mean(), dtype=np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def folder(prepared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared samples, with the stand-in as the teacher."""
    monkeypatch.setattr(module, "BlendshapeTeacher", MeanTeacher)
    return shutil.copytree(prepared_folder, tmp_path / "out")


def test_blendshapes_are_those_of_each_face_in_its_image(folder: Path, prepared: PreparedImages) -> None:
    with open_dataset("folder", SAMPLES) as dataset:
        prepare_blendshapes(dataset, folder, TASK)
    blendshapes = load_prepared(folder).blendshapes()
    assert blendshapes.shape == (32, 52)
    assert blendshapes.dtype == np.float32
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


@pytest.mark.parametrize("done_bytes", [9 * ROW_BYTES + 100, 32 * ROW_BYTES])
def test_interrupted_blendshapes_are_resumed(folder: Path, done_bytes: int) -> None:
    with open_dataset("folder", SAMPLES) as dataset:
        prepare_blendshapes(dataset, folder, TASK)
        whole = np.load(folder / BLENDSHAPES)
        (folder / BLENDSHAPES).unlink()
        # The rows of an earlier run differ, so that a row that is made again shows.
        (folder / UNFINISHED_BLENDSHAPES).write_bytes((whole + 1).tobytes()[:done_bytes])
        load_prepared(folder)
        counts: list[int] = []
        prepare_blendshapes(dataset, folder, TASK, progress=lambda done, total: counts.append(done))
    done = done_bytes // ROW_BYTES
    assert counts == ([9, 32] if done == 9 else [32])
    resumed = np.load(folder / BLENDSHAPES)
    np.testing.assert_array_equal(resumed[:done], (whole + 1)[:done])
    np.testing.assert_array_equal(resumed[done:], whole[done:])


def test_existing_blendshapes_are_kept(folder: Path) -> None:
    np.save(folder / BLENDSHAPES, np.ones((32, 52), dtype=np.float32))
    with open_dataset("folder", SAMPLES) as dataset:
        prepare_blendshapes(dataset, folder, TASK)
    assert (load_prepared(folder).blendshapes() == 1).all()


def test_images_in_which_no_face_is_found_have_no_blendshapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BlendshapeTeacher", MeanTeacher)
    (tmp_path / "source/happy").mkdir(parents=True)
    for name, data in (("a", no_face()), ("b", sample_bytes("happiness", 0)), ("c", b"damaged")):
        (tmp_path / f"source/happy/{name}.jpg").write_bytes(data)
    with open_dataset("folder", tmp_path / "source") as dataset:
        prepare(dataset, tmp_path / "out")
        prepare_blendshapes(dataset, tmp_path / "out", TASK)
        assert np.isnan(np.load(tmp_path / "out" / BLENDSHAPES)).all(axis=1).tolist() == [True, False, True]
        assert load_prepared(tmp_path / "out").blendshapes().shape == (1, 52)
        monkeypatch.setattr(MeanTeacher, "blendshapes", lambda self, image, points_px: None)
        (tmp_path / "out" / BLENDSHAPES).unlink()
        prepare_blendshapes(dataset, tmp_path / "out", TASK)
    assert np.isnan(load_prepared(tmp_path / "out").blendshapes()).all()


def test_the_output_for_other_images_gets_no_blendshapes(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other/happy").mkdir(parents=True)
    (tmp_path / "other/happy/a.jpg").write_bytes(sample_bytes("happiness", 0))
    with (
        open_dataset("folder", tmp_path / "other") as dataset,
        pytest.raises(DatasetInvalid, match="another data set"),
    ):
        prepare_blendshapes(dataset, folder, TASK)


@needs_face_landmarker
def test_the_face_landmarker_finds_a_smile_in_happy_faces(prepared_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared_folder, tmp_path / "out")
    with open_dataset("folder", SAMPLES) as dataset:
        prepare_blendshapes(dataset, folder, FACE_LANDMARKER)
    images = load_prepared(folder)
    smile = images.blendshapes()[:, BLENDSHAPE_NAMES.index("mouthSmileLeft")]
    assert np.isfinite(smile).mean() > 0.9
    means = {label: np.nanmean(smile[images.labels == label]) for label in set(images.labels.tolist())}
    assert max(means, key=lambda label: means[label]) == "happiness"
