from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetInvalid
from model.training.datasets import open_dataset
from model.training.datasets.dataset import content_hash
from model.training.prepare import prepare
from model.training.prepared import (
    LANDMARKS,
    MANIFEST,
    PATCHES,
    UNFINISHED,
    PreparedImages,
    load_prepared,
    read_manifest,
    training_split,
)
from model.vision.faces import FaceReader
from model.vision.patches import LAYOUTS, LayoutName
from tests.conftest import SAMPLES, no_face, sample_bytes

NOSE_TIP, EAR_RIGHT, EAR_LEFT = 1, 234, 454
"""Landmarks; the latter two are the points of the face's outline beside the ears"""


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
    assert test.labels.tolist() == ["angry"]
    assert test.patches(slice(None), "squares").shape == (1, 3, 64, 64, 3)
    assert test.patches(slice(None), "tight").shape == (1, 3, 48, 48, 3)
    assert test.landmarks().shape == (1, 468, 3)
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
        with pytest.raises(DatasetInvalid, match="not completely prepared: run `csrn prepare` again"):
            load_prepared(tmp_path)
        with pytest.raises(DatasetInvalid, match="not completely prepared: run `csrn prepare` again"):
            training_split(tmp_path)
        counts: list[int] = []
        prepare(dataset, tmp_path, progress=lambda done, total: counts.append(done))
    assert counts == ([9, 32] if done == 9 else [32])
    assert (tmp_path / MANIFEST).read_text() == (prepared_folder / MANIFEST).read_text()
    assert not (tmp_path / UNFINISHED).exists()
    again = load_prepared(tmp_path)
    for layout in LAYOUTS:
        patches = prepared.patches(slice(None), layout)
        np.testing.assert_array_equal(again.patches(slice(None), layout), patches)
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


@pytest.mark.parametrize("damaged", [*PATCHES.values(), LANDMARKS])
def test_damaged_output_is_refused(prepared_folder: Path, tmp_path: Path, damaged: str) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    (tmp_path / "out" / damaged).write_bytes((prepared_folder / damaged).read_bytes()[:10_000])
    with pytest.raises(DatasetInvalid, match="not an output"):
        load_prepared(tmp_path / "out")
    with (
        open_dataset("folder", SAMPLES) as dataset,
        pytest.raises(DatasetInvalid, match="is damaged: remove"),
    ):
        prepare(dataset, tmp_path / "out")


@pytest.mark.parametrize("missing", [*PATCHES.values(), LANDMARKS])
def test_output_that_lacks_an_array_is_refused(prepared_folder: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    (tmp_path / "out" / missing).unlink()
    with pytest.raises(DatasetInvalid, match="not an output"):
        load_prepared(tmp_path / "out")
    with (
        open_dataset("folder", SAMPLES) as dataset,
        pytest.raises(DatasetInvalid, match=f"{missing} is missing: remove"),
    ):
        prepare(dataset, tmp_path / "out")
    assert not (tmp_path / "out" / missing).exists()


def test_the_output_of_an_earlier_version_is_refused(prepared_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    (tmp_path / "out" / PATCHES["squares"]).rename(tmp_path / "out" / "patches.npy")
    reason = r"was prepared by an earlier version: remove it and run `csrn prepare` again"
    with pytest.raises(DatasetInvalid, match=reason):
        load_prepared(tmp_path / "out")
    with pytest.raises(DatasetInvalid, match=reason):
        training_split(tmp_path / "out")
    with open_dataset("folder", SAMPLES) as dataset, pytest.raises(DatasetInvalid, match=reason):
        prepare(dataset, tmp_path / "out")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_training_sees_the_patches_and_landmarks_that_the_service_sees(
    prepared: PreparedImages, layout: LayoutName
) -> None:
    reader = FaceReader(LAYOUTS[layout])
    for index in (0, 20):
        face = reader.read_single((SAMPLES / prepared.sources[index]).read_bytes())
        np.testing.assert_array_equal(prepared.patches(np.array([index]), layout)[0], face.patches)
        landmarks = prepared.landmarks()[index]
        np.testing.assert_array_equal(landmarks[:, :2], face.landmarks.points_px)
        np.testing.assert_array_equal(landmarks[:, 2], face.landmarks.depths_px)
        assert landmarks[NOSE_TIP, 2] < landmarks[[EAR_RIGHT, EAR_LEFT], 2].min() - 10
    reader.close()


def test_votes_are_found_by_source_or_by_the_bytes_of_an_image(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"source/happy/{name}.jpg", sample_bytes("happiness", "abc".index(name)))
    votes = {
        "happy/a.jpg": (1,) * 10,
        content_hash(sample_bytes("happiness", 1)): (0, 9, 0, 0, 0, 0, 0, 0, 1, 0),
    }
    with open_dataset("folder", tmp_path / "source") as dataset:
        prepare(dataset, tmp_path / "out", votes=votes)
    images = load_prepared(tmp_path / "out")
    assert images.votes.tolist() == [[1] * 10, [0, 9, 0, 0, 0, 0, 0, 0, 1, 0], [0] * 10]
    assert images.votes.dtype == np.int64
    assert images.select(np.array([1])).votes.tolist() == [[0, 9, 0, 0, 0, 0, 0, 0, 1, 0]]
    rows = read_manifest(tmp_path / "out" / MANIFEST)
    assert [row["votes"] for row in rows] == ["1 1 1 1 1 1 1 1 1 1", "0 9 0 0 0 0 0 0 1 0", ""]


def test_the_votes_of_a_data_set_serve_where_none_are_given(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"source/happy/{name}.jpg", sample_bytes("happiness", "ab".index(name)))
    shipped = {content_hash(sample_bytes("happiness", 1)): (2,) * 10}
    with open_dataset("folder", tmp_path / "source") as opened:
        dataset = dataclasses.replace(opened, load_votes=lambda: shipped)
        prepare(dataset, tmp_path / "out")
        assert load_prepared(tmp_path / "out").votes.tolist() == [[0] * 10, [2] * 10]
        prepare(dataset, tmp_path / "out", votes={"happy/a.jpg": (3,) * 10})
        assert load_prepared(tmp_path / "out").votes.tolist() == [[3] * 10, [0] * 10]
        prepare(dataset, tmp_path / "out")
        assert load_prepared(tmp_path / "out").votes.tolist() == [[3] * 10, [0] * 10], "kept"


def test_votes_and_persons_of_a_finished_folder_change_alone(prepared_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    untouched = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.npy")}
    before = read_manifest(tmp_path / "out" / MANIFEST)
    counts: list[int] = []
    with open_dataset("folder", SAMPLES) as dataset:
        prepare(
            dataset,
            tmp_path / "out",
            votes={"anger/00.jpg": (10,) + (0,) * 9},
            person=re.compile(r"(\d)\.jpg"),
            progress=lambda done, total: counts.append(done),
        )
        assert counts == [32], "no image is read again"
        prepare(dataset, tmp_path / "out")
    after = read_manifest(tmp_path / "out" / MANIFEST)
    assert [row | {"votes": "", "person": ""} for row in after] == before
    assert [row["votes"] for row in after] == ["10 0 0 0 0 0 0 0 0 0"] + [""] * 31
    assert load_prepared(tmp_path / "out").persons.tolist() == list("01234567") * 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.npy")} == untouched


def test_persons_come_from_the_first_group_of_the_first_match(prepared_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared_folder, tmp_path / "out")
    with open_dataset("folder", SAMPLES) as dataset:
        prepare(dataset, tmp_path / "out", person=re.compile(r"(?:happi|sad)ness/(.)(.)"))
    persons = load_prepared(tmp_path / "out").persons.tolist()
    assert persons == [""] * 8 + ["0"] * 16 + [""] * 8


@pytest.mark.parametrize("pattern", ["(subject[0-9]+)", "anger/()"])
def test_a_pattern_that_finds_no_person_is_refused_with_a_path(tmp_path: Path, pattern: str) -> None:
    with (
        open_dataset("folder", SAMPLES) as dataset,
        pytest.raises(
            DatasetInvalid, match=r"finds no person in any path of the data set, such as anger/00.jpg"
        ),
    ):
        prepare(dataset, tmp_path / "out", person=re.compile(pattern))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="not an output of `csrn prepare`"):
        load_prepared(tmp_path)
