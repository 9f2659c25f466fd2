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
from model.training.prepare import Report, prepare
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
from tests.support.samples import SAMPLES, no_face, sample_bytes

NOSE_TIP, EAR_RIGHT, EAR_LEFT = 1, 234, 454
"""Landmarks; the latter two are the points of the face's outline beside the ears"""
ARRAYS = [*PATCHES.values(), LANDMARKS]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def prepared_from(source: Path, out: Path, name: str = "folder", **options: object) -> Report:
    with open_dataset(name, source) as dataset:
        return prepare(dataset, out, **options)  # type: ignore[arg-type]


@pytest.fixture
def out(prepared_folder: Path, tmp_path: Path) -> Path:
    """A copy of the prepared samples."""
    return shutil.copytree(prepared_folder, tmp_path / "out")


def test_the_result_for_each_image_is_reported_and_kept_by_split(tmp_path: Path) -> None:
    source, out = tmp_path / "fer2013", tmp_path / "out"
    write(source / "train/happy/Training_1.jpg", sample_bytes("happiness", 0))
    write(source / "train/angry/Training_2.jpg", no_face())
    write(source / "test/angry/PublicTest_3.jpg", b"damaged")
    write(source / "test/angry/PrivateTest_4.jpg", sample_bytes("anger", 0))
    report = prepared_from(source, out, "fer2013")
    counts = {"found": 1, "found_after_padding": 0, "not_found": 1, "unreadable": 1, "duplicate": 0}
    assert report["angry"] == counts
    test = load_prepared(out, split="test")
    assert test.labels.tolist() == ["angry"]
    assert test.patches(slice(None), "squares").shape == (1, 3, 64, 64, 3)
    assert test.patches(slice(None), "tight").shape == (1, 3, 48, 48, 3)
    assert test.landmarks().shape == (1, 468, 3)
    assert len(load_prepared(out)) == 2
    with pytest.raises(DatasetInvalid, match="no split 'x'; it has test, train"):
        load_prepared(out, split="x")


def test_an_image_in_several_splits_stays_in_the_one_for_measuring(tmp_path: Path) -> None:
    source, out = tmp_path / "fer2013", tmp_path / "out"
    for name in ("train/happy/Training_1", "train/happy/Training_2", "test/happy/PublicTest_1"):
        write(source / f"{name}.jpg", sample_bytes("happiness", 0))
    for name in ("train/happy/Training_3", "train/sad/Training_4"):
        write(source / f"{name}.jpg", sample_bytes("happiness", 1))
    report = prepared_from(source, out, "fer2013")
    assert report == prepared_from(source, out, "fer2013")
    assert (report["happy"]["duplicate"], report["happy"]["found"]) == (2, 2)
    kept = load_prepared(out).sources.tolist()
    assert [Path(name).stem for name in kept] == ["PublicTest_1", "Training_3", "Training_4"]


@pytest.mark.parametrize("done", [9, 32])
def test_an_interrupted_preparation_is_resumed(
    prepared: PreparedImages, prepared_folder: Path, out: Path, done: int
) -> None:
    """With 32, all images are done but duplicates are not marked yet."""
    lines = (out / MANIFEST).read_text().splitlines(keepends=True)
    (out / UNFINISHED).write_text("".join(lines[: done + 1]) + "anger/cut o")
    (out / MANIFEST).unlink()
    for read in (load_prepared, training_split):
        with pytest.raises(DatasetInvalid, match="not completely prepared: run `csrn prepare` again"):
            read(out)
    counts: list[int] = []
    prepared_from(SAMPLES, out, progress=lambda _, done, total: counts.append(done))
    assert counts == ([9, 32] if done == 9 else [32])
    assert (out / MANIFEST).read_text() == (prepared_folder / MANIFEST).read_text()
    assert not (out / UNFINISHED).exists()
    again = load_prepared(out)
    for layout in LAYOUTS:
        patches = prepared.patches(slice(None), layout)
        np.testing.assert_array_equal(again.patches(slice(None), layout), patches)
    np.testing.assert_array_equal(again.landmarks(), prepared.landmarks())


def test_the_output_for_other_images_stays_untouched(out: Path, tmp_path: Path) -> None:
    for index in range(32):
        write(tmp_path / f"other/x/{index}.jpg", b"")
    before = read_manifest(out / MANIFEST)
    with pytest.raises(DatasetInvalid, match="another data set"):
        prepared_from(tmp_path / "other", out)
    assert read_manifest(out / MANIFEST) == before


def test_a_file_name_of_any_bytes_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"happy/caf\xe9.jpg")
    write(tmp_path / "source" / name, sample_bytes("happiness", 0))
    prepared_from(tmp_path / "source", tmp_path / "out")
    assert load_prepared(tmp_path / "out").sources.tolist() == [name]


@pytest.mark.parametrize("name", ARRAYS)
def test_output_with_a_damaged_or_missing_array_is_refused(out: Path, name: str) -> None:
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[:10_000])
    for reason in ("is damaged: remove", f"{name} is missing: remove"):
        with pytest.raises(DatasetInvalid, match="not an output"):
            load_prepared(out)
        with pytest.raises(DatasetInvalid, match=reason):
            prepared_from(SAMPLES, out)
        (out / name).unlink(missing_ok=True)
    assert not (out / name).exists()


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


def test_votes_are_matched_by_source_or_by_the_bytes_of_an_image(tmp_path: Path) -> None:
    for index, name in enumerate("abc"):
        write(tmp_path / f"source/happy/{name}.jpg", sample_bytes("happiness", index))
    counts = (0, 9, 0, 0, 0, 0, 0, 0, 1, 0)
    votes = {"happy/a.jpg": (1,) * 10, content_hash(sample_bytes("happiness", 1)): counts}
    prepared_from(tmp_path / "source", tmp_path / "out", votes=votes)
    images = load_prepared(tmp_path / "out")
    assert images.votes.tolist() == [[1] * 10, [*counts], [0] * 10]
    assert images.votes.dtype == np.int64
    assert images.select(np.array([1])).votes.tolist() == [[*counts]]
    rows = read_manifest(tmp_path / "out" / MANIFEST)
    assert [row["votes"] for row in rows] == ["1 1 1 1 1 1 1 1 1 1", "0 9 0 0 0 0 0 0 1 0", ""]


def test_the_votes_of_a_data_set_are_the_default(tmp_path: Path) -> None:
    for index, name in enumerate("ab"):
        write(tmp_path / f"source/happy/{name}.jpg", sample_bytes("happiness", index))
    shipped = {content_hash(sample_bytes("happiness", 1)): (2,) * 10}
    with open_dataset("folder", tmp_path / "source") as opened:
        dataset = dataclasses.replace(opened, load_votes=lambda: shipped)
        given = {"happy/a.jpg": (3,) * 10}
        for votes, expected in ((None, [0, 2]), (given, [3, 0]), (None, [3, 0])):
            prepare(dataset, tmp_path / "out", votes=votes)
            found = load_prepared(tmp_path / "out").votes.tolist()
            assert found == [[count] * 10 for count in expected], "votes of a finished folder are kept"


def test_votes_and_persons_of_a_finished_folder_change_alone(out: Path) -> None:
    untouched = {path.name: path.read_bytes() for path in out.glob("*.npy")}
    before = read_manifest(out / MANIFEST)
    counts: list[int] = []
    votes = {"anger/00.jpg": (10,) + (0,) * 9}
    person = re.compile(r"(\d)\.jpg")

    prepared_from(
        SAMPLES, out, votes=votes, person=person, progress=lambda _, done, total: counts.append(done)
    )
    assert counts == [32], "no image is read again"
    prepared_from(SAMPLES, out)
    after = read_manifest(out / MANIFEST)
    assert [row | {"votes": "", "person": ""} for row in after] == before
    assert [row["votes"] for row in after] == ["10 0 0 0 0 0 0 0 0 0"] + [""] * 31
    assert load_prepared(out).persons.tolist() == list("01234567") * 4
    assert {path.name: path.read_bytes() for path in out.glob("*.npy")} == untouched


def test_persons_come_from_the_first_group_of_the_first_match(out: Path) -> None:
    prepared_from(SAMPLES, out, person=re.compile(r"(?:happi|sad)ness/(.)(.)"))
    assert load_prepared(out).persons.tolist() == [""] * 8 + ["0"] * 16 + [""] * 8


@pytest.mark.parametrize("pattern", ["(subject[0-9]+)", "anger/()"])
def test_a_pattern_that_finds_no_person_is_refused_with_a_path(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(DatasetInvalid, match=r"finds no person in any path .* such as anger/00.jpg"):
        prepared_from(SAMPLES, tmp_path / "out", person=re.compile(pattern))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_was_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="not an output of `csrn prepare`"):
        load_prepared(tmp_path)
