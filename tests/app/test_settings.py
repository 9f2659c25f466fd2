from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings import usable_cores

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("100000 100000", 1),
        ("20000 100000", 1),
        (f"{ALL * 100000 - 50000} 100000", ALL),
        (f"{ALL * 200000} 100000", ALL),
        ("max 100000", ALL),
        ("", ALL),
    ],
)
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, cpu_max: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_without_a_quota_all_cores_that_the_process_may_run_on_count(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "nothing") == ALL
