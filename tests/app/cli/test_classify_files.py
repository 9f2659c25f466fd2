from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.classify_files import find_images


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with three image files and a text file."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "more/c.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"four")
    return tmp_path


def found_images(paths: list[str], leave_out: Path | None = None) -> list[Path]:
    """The images of paths that all name some."""
    missing: list[str] = []
    found = find_images(paths, on_missing=missing.append, leave_out=leave_out)
    assert missing == []
    return found


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["."], ["a.PNG", "b.jpg", "more/c.webp"]),
        (["b.jpg", "more"], ["b.jpg", "more/c.webp"]),
        (["*.jpg", "**/*.webp"], ["b.jpg", "more/c.webp"]),
        (["notes.txt"], ["notes.txt"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_images_are_found_in_folders_and_by_patterns(paths: list[str], found: list[str]) -> None:
    assert [file.as_posix() for file in found_images(paths)] == found


def test_a_path_without_images_does_not_stop_the_others(folder: Path) -> None:
    (folder / "empty" / "folder.jpg").mkdir(parents=True)
    missing: list[str] = []
    found = find_images(["missing.jpg", "b.jpg", "*.gif", "empty"], on_missing=missing.append)
    assert (found, missing) == ([Path("b.jpg")], ["missing.jpg", "*.gif", "empty"])


@pytest.mark.usefixtures("folder")
def test_images_below_the_folder_to_leave_out_are_found_only_by_name() -> None:
    more = Path("more")
    assert found_images(["."], leave_out=more) == [Path("a.PNG"), Path("b.jpg")]
    assert found_images(["**/*.[jw]*"], leave_out=more) == [Path("b.jpg")]
    for named in ("more", "more/c.webp"):
        assert found_images([named], leave_out=more) == [more / "c.webp"]
