from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import pytest

from tests.support.postgresql import needs_postgresql
from tests.support.proxied import Proxied, needs_haproxy
from tests.support.stores import sqlite_opener
from tests.support.traffic import CLIENTS, Traffic
from tests.support.writers import kill_writers

pytestmark = pytest.mark.soak


def test_a_thousand_kills_right_after_an_acknowledged_write_lose_nothing(tmp_path: Path) -> None:
    kill_writers(sqlite_opener(tmp_path), 1000)


@needs_haproxy
@needs_postgresql
def test_fifty_kills_of_replicas_under_load_lose_nothing(tmp_path: Path) -> None:
    with contextlib.closing(Proxied(tmp_path)) as proxied:
        proxied.start(2)
        with Traffic(proxied) as traffic:
            for _ in range(50):
                proxied.stop_oldest(signal.SIGKILL)
                traffic.wait_for_more()
                proxied.start(1)
                traffic.wait_for_more()
        assert len(traffic.failures) <= 50 * CLIENTS
        assert traffic.lost == set()
