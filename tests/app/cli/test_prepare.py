"""`csrn prepare` with its options, run in this process."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from app.cli import cli
from model.errors import DatasetInvalid
from model.training.datasets.votes import BY_FILE_COLUMNS
from model.training.prepared import load_prepared
from tests.support.samples import SAMPLES
from tests.support.shared_data import FACE_LANDMARKER, needs_face_landmarker


def prepare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["prepare", *map(str, arguments)])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two happy faces."""
    (tmp_path / "source/happiness").mkdir(parents=True)
    for index in range(2):
        shutil.copy(SAMPLES / "happiness" / f"{index:02}.jpg", tmp_path / "source/happiness")
    return tmp_path / "source"


def test_votes_and_persons_are_kept_and_counted(source: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.csv").write_text(
        ",".join(BY_FILE_COLUMNS) + "\nhappiness/01.jpg,1,9,0,0,0,0,0,0,0,0\n"
    )
    ended = prepare(
        "folder", source, tmp_path / "out", "--votes", tmp_path / "votes.csv", "--person", r"0([0-9])\.jpg"
    )
    assert ended.exit_code == 0, ended.output
    last = ended.stdout.splitlines()[-1]
    assert last == "2 faces: 1 with votes, 2 with a known person (2 persons), 0 with blendshapes"
    images = load_prepared(tmp_path / "out")
    assert images.votes.tolist() == [[0] * 10, [1, 9] + [0] * 8]
    assert images.persons.tolist() == ["0", "1"]


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(S0", "is not a regular"), ("S[0-9]+", "needs a group"), ("", "needs a group")]
)
def test_a_pattern_without_a_group_is_bad_usage(
    source: Path, tmp_path: Path, pattern: str, reason: str
) -> None:
    ended = prepare("folder", source, tmp_path / "out", "--person", pattern)
    assert ended.exit_code == 2
    assert reason in ended.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--votes", "--blendshapes"])
@pytest.mark.parametrize("content", [None, b"something else"])
def test_a_wrong_file_is_refused_before_any_work(
    source: Path, tmp_path: Path, option: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    ended = prepare("folder", source, tmp_path / "out", option, tmp_path / "file")
    assert isinstance(ended.exception, FileNotFoundError if content is None else DatasetInvalid)
    assert not (tmp_path / "out").exists()


@needs_face_landmarker
def test_blendshapes_are_added_to_a_finished_folder(source: Path, tmp_path: Path) -> None:
    assert prepare("folder", source, tmp_path / "out").exit_code == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    ended = prepare("folder", source, tmp_path / "out", "--blendshapes", FACE_LANDMARKER)
    assert ended.exit_code == 0, ended.output
    last = ended.stdout.splitlines()[-1]
    assert last == "2 faces: 0 with votes, 0 with a known person (0 persons), 2 with blendshapes"
    blendshapes = load_prepared(tmp_path / "out").blendshapes()
    assert blendshapes.shape == (2, 52)
    assert np.isfinite(blendshapes).all()
    after = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(after) - set(before) == {"blendshapes.npy"}
    assert all(after[name] == data for name, data in before.items())
