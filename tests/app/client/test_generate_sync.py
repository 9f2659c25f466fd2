from __future__ import annotations

from pathlib import Path

import pytest

import generate_sync


def test_the_check_fails_until_the_sync_client_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outdated = tmp_path / generate_sync.TARGET.name
    outdated.write_text("class Client: ...\n")
    monkeypatch.setattr(generate_sync, "TARGET", outdated)
    assert generate_sync.main(["--check"]) == 1
    assert generate_sync.main([]) == 0
    assert generate_sync.main(["--check"]) == 0
    assert "async" not in outdated.read_text().split("class Client", 1)[1]


def test_the_sync_client_is_up_to_date() -> None:
    assert generate_sync.main(["--check"]) == 0
