"""FER+ votes: how often an image's annotators chose each expression (Barsoum et al., ICMI 2016)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from model.errors import DatasetInvalid
from model.training.datasets.dataset import HASH_BYTES, LabelledImage, shown_names

_COLUMNS = "neutral happiness surprise sadness anger disgust fear contempt unknown no_face"
VOTE_COLUMNS = tuple(_COLUMNS.split())
BY_FILE_COLUMNS = ("file", *VOTE_COLUMNS)
BY_ROW_COLUMNS = ("Usage", "Image name", *VOTE_COLUMNS[:-1], "NF")
"""Columns of FER+'s own fer2013new.csv, which has one row for each row of fer2013.csv, in the same order"""

Votes = tuple[int, ...]
"""Counts in the order of VOTE_COLUMNS"""
VoteTable = Mapping[str, Votes]
"""Votes by an image's source, or by the hash of its bytes"""

SHIPPED = Path(__file__).with_name("ferplus.npz")
"""hashes (images, HASH_BYTES) uint8 in ascending order, and votes (images, 10) uint8; see ferplus.md"""


def shipped_votes() -> VoteTable:
    """Load the votes for the image files of Kaggle's FER2013, by the hash of their bytes."""
    with np.load(SHIPPED) as table:
        hashes, votes = table["hashes"].tobytes().hex(), table["votes"].tolist()
    digits = 2 * HASH_BYTES
    return {hashes[digits * row : digits * (row + 1)]: tuple(counts) for row, counts in enumerate(votes)}


def read_votes(path: Path, images: list[LabelledImage]) -> VoteTable:
    """Read a CSV of votes, and match them with the sources of the images.

    The CSV either names files (columns BY_FILE_COLUMNS), with or without the data set's outermost folder, or
    is FER+'s own table for the rows of fer2013.csv (columns BY_ROW_COLUMNS).
    Raises: DatasetInvalid if columns differ, a row is damaged, or the rows belong to other images; OSError.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
        except csv.Error as error:
            raise DatasetInvalid(f"{path} is not a CSV file: {error}") from None
    header = tuple(name.strip() for name in rows[0]) if rows else ()
    if header == BY_FILE_COLUMNS:
        return _by_file(path, rows[1:], images)
    if header == BY_ROW_COLUMNS:
        return _by_row(path, rows[1:], images)
    raise DatasetInvalid(
        f"{path}: expected columns {','.join(BY_FILE_COLUMNS)} or {','.join(BY_ROW_COLUMNS)}; "
        f"found {','.join(header)[:200] or 'nothing'}"
    )


def _by_file(path: Path, rows: list[list[str]], images: list[LabelledImage]) -> VoteTable:
    named = {row[0]: _counts(path, number, row[1:]) for number, row in enumerate(rows, start=1)}
    sources = [image.source for image in images]
    for table, key in (
        (named, str),
        ({_without_first_folder(name): votes for name, votes in named.items()}, str),
        (named, _without_first_folder),
    ):
        if matched := {source: table[key(source)] for source in sources if key(source) in table}:
            return matched
    raise DatasetInvalid(
        f"{path} has votes for no image of the data set: it names {shown_names(named)}, "
        f"the images are {shown_names(sources)}"
    )


def _by_row(path: Path, rows: list[list[str]], images: list[LabelledImage]) -> VoteTable:
    sources = [image.source for image in images]
    if any("/" in source or "." in source for source in sources):
        raise DatasetInvalid(
            f"{path} gives votes by row of fer2013.csv, but the images are files: {shown_names(sources)}"
        )
    if len(rows) != len(images):
        raise DatasetInvalid(f"{path} has {len(rows)} rows, but the data set has {len(images)}")
    votes = {}
    for number, (row, source) in enumerate(zip(rows, sources, strict=True), start=1):
        if source != f"{row[0].strip()}_{number - 1}":
            raise DatasetInvalid(
                f"{path}: row {number} is of {row[0][:20]!r}, but that row of the data set is {source}"
            )
        votes[source] = _counts(path, number, row[2:])
    return votes


def _counts(path: Path, number: int, fields: list[str]) -> Votes:
    if len(fields) != len(VOTE_COLUMNS) or not all(field.strip().isdecimal() for field in fields):
        raise DatasetInvalid(
            f"{path}: expected {len(VOTE_COLUMNS)} counts in row {number}; found {','.join(fields)[:60]!r}"
        )
    return tuple(int(field) for field in fields)


def _without_first_folder(name: str) -> str:
    return name.partition("/")[2]
