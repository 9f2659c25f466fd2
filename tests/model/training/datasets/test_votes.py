"""Votes by file name, by row of fer2013.csv, and as the project ships them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import DatasetInvalid
from model.training.datasets import LabelledImage, open_dataset
from model.training.datasets.dataset import content_hash
from model.training.datasets.make_ferplus import make_ferplus
from model.training.datasets.votes import (
    BY_FILE_COLUMNS,
    BY_ROW_COLUMNS,
    SHIPPED,
    VOTE_COLUMNS,
    read_votes,
    shipped_votes,
)
from tests.support.shared_data import FER2013_ZIP, FERPLUS_CSV, needs_fer2013

HAPPY, ANGRY = (1, 8, 0, 0, 0, 0, 0, 1, 0, 0), (2, 0, 0, 1, 7, 0, 0, 0, 0, 0)
FILES = ("fer2013/test/angry/PublicTest_1.jpg", "fer2013/train/happy/Training_2.jpg")
ROWS = ("Training_0", "PublicTest_1", "PrivateTest_2")


def images(*sources: str) -> list[LabelledImage]:
    return [LabelledImage(source=source, label="", split="train") for source in sources]


def line(*fields: object) -> str:
    return ",".join(map(str, fields)) + "\n"


def by_file(path: Path) -> Path:
    rows = line(*BY_FILE_COLUMNS), line(FILES[1], *HAPPY), line(FILES[0], *ANGRY)
    path.write_text("".join(rows))
    return path


def by_row(path: Path, *, usages: tuple[str, ...] = ("Training", "PublicTest", "PrivateTest")) -> Path:
    votes = (HAPPY, (0,) * 9 + (10,), ANGRY)
    names = ("fer0000000.png", "", "fer0000002.png")
    rows = (line(usage, name, *counts) for usage, name, counts in zip(usages, names, votes, strict=False))
    path.write_text(line(*BY_ROW_COLUMNS) + "".join(rows))
    return path


@pytest.mark.parametrize(
    ("prefix", "removed"), [("", ""), ("", "fer2013/"), ("archive/", "")], ids=["zip", "folder", "deeper"]
)
def test_votes_by_file_name_are_matched_to_images(prefix: str, removed: str, tmp_path: Path) -> None:
    angry, happy = (prefix + name.removeprefix(removed) for name in FILES)
    without = happy.replace("Training_2", "Training_3")
    table = read_votes(by_file(tmp_path / "v.csv"), images(happy, angry, without))
    assert table == {happy: HAPPY, angry: ANGRY}


def test_votes_by_row_are_matched_to_the_rows_of_fer2013_csv(tmp_path: Path) -> None:
    table = read_votes(by_row(tmp_path / "v.csv"), images(*ROWS))
    assert table == {ROWS[0]: HAPPY, ROWS[1]: (0,) * 9 + (10,), ROWS[2]: ANGRY}


def test_votes_by_row_need_the_same_rows_as_the_data_set(tmp_path: Path) -> None:
    path = by_row(tmp_path / "v.csv")
    with pytest.raises(DatasetInvalid, match=r"v.csv has 3 rows, but the data set has 2"):
        read_votes(path, images(*ROWS[:2]))
    with pytest.raises(DatasetInvalid, match=f"by row of fer2013.csv, but the images are files: {FILES[0]}"):
        read_votes(path, images(*FILES, "z.jpg"))
    by_row(path, usages=("Training", "PrivateTest", "PublicTest"))
    with pytest.raises(DatasetInvalid, match=r"row 2 is of 'PrivateTest', but that row .* is PublicTest_1"):
        read_votes(path, images(*ROWS))


def test_votes_for_other_images_are_refused_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match=f"no image of the data set: it names {FILES[0]}.* are a/b.jpg"):
        read_votes(by_file(tmp_path / "v.csv"), images("a/b.jpg"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected columns file,neutral.* or Usage,Image name,.*; found nothing"),
        ("file,happiness,neutral\n", "expected columns file,neutral,.*; found file,happiness,neutral"),
        (line(*BY_FILE_COLUMNS) + line("a.jpg", *HAPPY[:9]), "expected 10 counts in row 1"),
        (line(*BY_FILE_COLUMNS) + line("a.jpg", *HAPPY[:9], "-1"), "expected 10 counts in row 1"),
        (line(*BY_FILE_COLUMNS) + line("a.jpg", *HAPPY) + "b.jpg\n", "expected 10 counts in row 2"),
        (line(*BY_ROW_COLUMNS) + line("Training", "", *HAPPY, 1), "expected 10 counts in row 1"),
        ("\x00\x01\x02", "expected columns|is not a CSV file"),
    ],
)
def test_a_damaged_or_unknown_table_is_refused_with_the_reason(
    text: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "v.csv").write_text(text)
    source = "Training_0" if text.startswith("Usage") else "a.jpg"
    with pytest.raises(DatasetInvalid, match=reason):
        read_votes(tmp_path / "v.csv", images(source))


def test_the_shipped_votes_cover_most_of_fer2013() -> None:
    votes = shipped_votes()
    assert len(votes) == 33_899
    assert {len(content) for content in votes} == {len(content_hash(b""))}
    counts = np.array(list(votes.values()))
    assert counts.shape[1] == len(VOTE_COLUMNS)
    assert (counts.sum(axis=1) == 10).mean() > 0.99
    assert VOTE_COLUMNS[counts.sum(axis=0).argmax()] == "neutral"
    assert SHIPPED.stat().st_size < 500_000


def test_files_with_equal_bytes_share_the_votes_of_the_first(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"the same")
    make_ferplus(by_file(tmp_path / "v.csv"), tmp_path, tmp_path / "table.npz")
    with np.load(tmp_path / "table.npz") as table:
        assert table["hashes"].tobytes().hex() == content_hash(b"the same")
        assert table["votes"].tolist() == [list(ANGRY)]


@needs_fer2013
def test_the_shipped_votes_are_those_of_the_csv(tmp_path: Path) -> None:
    make_ferplus(FERPLUS_CSV, FER2013_ZIP, tmp_path / "ferplus.npz")
    with np.load(tmp_path / "ferplus.npz") as made, np.load(SHIPPED) as table:
        np.testing.assert_array_equal(made["hashes"], table["hashes"])
        np.testing.assert_array_equal(made["votes"], table["votes"])
    shipped = shipped_votes()
    with open_dataset("fer2013", FER2013_ZIP) as dataset:
        assert dataset.load_votes() == shipped
        by_source = read_votes(FERPLUS_CSV, dataset.images)
        contents = {image.source: content_hash(dataset.read(image)) for image in dataset.images}
    differing = [source for source in by_source if shipped[contents[source]] != by_source[source]]
    assert len(by_source) == 35_677
    assert len(differing) <= 1, "one pair of files with the same bytes has differing votes"
