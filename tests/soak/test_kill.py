from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgresql import needs_postgresql
from tests.support.replicas import kill_under_load, running_cluster
from tests.support.stores import sqlite_opener
from tests.support.writers import kill_writers

pytestmark = pytest.mark.soak


def test_a_thousand_kills_right_after_an_acknowledged_write_lose_nothing(tmp_path: Path) -> None:
    kill_writers(sqlite_opener(tmp_path), 1000)


@needs_postgresql
def test_fifty_kills_of_replicas_under_load_lose_nothing(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        kill_under_load(cluster, 50)
