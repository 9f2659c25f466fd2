from __future__ import annotations

from pathlib import Path

import generate_sync


def test_the_check_fails_until_the_sync_modules_are_generated(tmp_path: Path) -> None:
    (tmp_path / "sync_client.py").write_text("class Client: ...\n")
    assert generate_sync.main(["--check"], package=tmp_path) == 1
    assert generate_sync.main([], package=tmp_path) == 0
    assert generate_sync.main(["--check"], package=tmp_path) == 0
    names = ["sync_client.py", "sync_connection.py", "sync_session.py"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    assert "await" not in "".join(file.read_text() for file in tmp_path.iterdir())


def test_the_sync_modules_are_up_to_date() -> None:
    assert generate_sync.main(["--check"]) == 0
