from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetInvalid
from model.training.datasets import open_dataset
from model.training.prepare import prepare
from model.training.prepared import (
    MANIFEST,
    PATCHES,
    UNFINISHED,
    PreparedImages,
    load_prepared,
    read_manifest,
    training_split,
)
from tests.conftest import SAMPLES, no_face, sample_bytes


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_what_became_of_each_image_is_reported_and_kept_by_split(tmp_path: Path) -> None:
    source = tmp_path / "fer2013"
    write(source / "train/happy/Training_1.jpg", sample_bytes("happiness", 0))
    write(source / "train/angry/Training_2.jpg", no_face())
    write(source / "test/angry/PublicTest_3.jpg", b"damaged")
    write(source / "test/angry/PrivateTest_4.jpg", sample_bytes("anger", 0))
    with open_dataset("fer2013", source) as dataset:
        report = prepare(dataset, tmp_path / "out")
    assert report["angry"] == {
        "found": 1,
        "found_after_padding": 0,
        "not_found": 1,
        "unreadable": 1,
        "duplicate": 0,
    }
    test = load_prepared(tmp_path / "out", split="test")
    assert (test.labels.tolist(), test.patches(slice(None)).shape) == (["angry"], (1, 3, 64, 64, 3))
    assert test.landmarks().shape == (1, 468, 2)
    assert len(load_prepared(tmp_path / "out")) == 2
    with pytest.raises(DatasetInvalid, match="no split 'x'; it has test, train"):
        load_prepared(tmp_path / "out", split="x")


def test_of_an_image_in_two_splits_only_the_one_that_is_measured_on_stays(tmp_path: Path) -> None:
    source = tmp_path / "fer2013"
    for name in ("train/happy/Training_1", "train/happy/Training_2", "test/happy/PublicTest_1"):
        write(source / f"{name}.jpg", sample_bytes("happiness", 0))
    for name in ("train/happy/Training_3", "train/sad/Training_4"):
        write(source / f"{name}.jpg", sample_bytes("happiness", 1))
    with open_dataset("fer2013", source) as dataset:
        report = prepare(dataset, tmp_path / "out")
        assert report == prepare(dataset, tmp_path / "out")
    assert (report["happy"]["duplicate"], report["happy"]["found"]) == (2, 2)
    kept = load_prepared(tmp_path / "out").sources.tolist()
    assert [Path(name).stem for name in kept] == ["PublicTest_1", "Training_3", "Training_4"]


@pytest.mark.parametrize("done", [9, 32])
def test_an_interrupted_preparation_goes_on(
    prepared: PreparedImages, prepared_folder: Path, tmp_path: Path, done: int
) -> None:
    """With 32 the kill came when every image was done, but before duplicates were looked for."""
    with open_dataset("folder", SAMPLES) as dataset:
        prepare(dataset, tmp_path)
        lines = (tmp_path / MANIFEST).read_text().splitlines(keepends=True)
        (tmp_path / UNFINISHED).write_text("".join(lines[: done + 1]) + "anger/cut o")
        (tmp_path / MANIFEST).unlink()
        with pytest.raises(DatasetInvalid, match="not prepared to its end: run `csrn prepare` again"):
            load_prepared(tmp_path)
        with pytest.raises(DatasetInvalid, match="not prepared to its end: run `csrn prepare` again"):
            training_split(tmp_path)
        counts: list[int] = []
        prepare(dataset, tmp_path, progress=lambda done, total: counts.append(done))
    assert counts == ([9, 32] if done == 9 else [32])
    assert (tmp_path / MANIFEST).read_text() == (prepared_folder / MANIFEST).read_text()
    assert not (tmp_path / UNFINISHED).exists()
    again = load_prepared(tmp_path)
    np.testing.assert_array_equal(again.patches(slice(None)), prepared.patches(slice(None)))
    np.testing.assert_array_equal(again.landmarks(), prepared.landmarks())


def test_the_output_for_other_images_is_not_gone_on_with(prepared_folder: Path, tmp_path: Path) -> None:
    for index in range(32):
        write(tmp_path / f"other/{index}.jpg", b"")
    before = read_manifest(prepared_folder / MANIFEST)
    with open_dataset("folder", tmp_path) as dataset, pytest.raises(DatasetInvalid, match="another data set"):
        prepare(dataset, prepared_folder)
    assert read_manifest(prepared_folder / MANIFEST) == before


def test_a_file_name_of_any_bytes_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"happy/caf\xe9.jpg")
    write(tmp_path / "source" / name, sample_bytes("happiness", 0))
    with open_dataset("folder", tmp_path / "source") as dataset:
        prepare(dataset, tmp_path / "out")
    assert load_prepared(tmp_path / "out").sources.tolist() == [name]


def test_damaged_output_is_refused(prepared_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    (tmp_path / "out" / PATCHES).write_bytes((prepared_folder / PATCHES).read_bytes()[:100_000])
    with pytest.raises(DatasetInvalid, match="not an output"):
        load_prepared(tmp_path / "out")
    with (
        open_dataset("folder", SAMPLES) as dataset,
        pytest.raises(DatasetInvalid, match="is damaged: remove"),
    ):
        prepare(dataset, tmp_path / "out")


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="not an output of `csrn prepare`"):
        load_prepared(tmp_path)
