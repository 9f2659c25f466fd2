from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.sessions.sqlite import SqliteStore
from app.sessions.sqlite_file import MIGRATIONS, open_database
from app.sessions.store import SessionNotFound, SessionStore, StoreUnavailable
from tests.app.sessions.conftest import QUOTAS, example, names, new_session, sqlite_opener

WRITER = """
import asyncio, sys
from pathlib import Path
from app.sessions.sqlite import SqliteStore
from tests.app.sessions.conftest import QUOTAS, example

async def write(path, session, round_):
    store = SqliteStore(Path(path), quotas=QUOTAS)
    for number in range(10_000):
        ids = [f"{round_}-{number}-{index}" for index in range(3)]
        await store.replace_class("ann", session, "a", [example(name) for name in ids])
        print(number, flush=True)

asyncio.run(write(*sys.argv[1:]))
"""


@contextlib.contextmanager
def disk_limit(file: Path) -> Iterator[None]:
    """No file of this process may grow beyond the size that `file` has: stands for a full disk."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


def test_kill_9_at_any_moment_loses_nothing_acknowledged_and_leaves_nothing_half_done(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sessions.sqlite3"
    opener = sqlite_opener(path)
    session = opener.run(lambda store: store.create("ann", new_session()))
    moments = random.Random(0)
    for round_ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, session.id, str(round_)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(moments.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        acknowledged = [first, *writer.stdout.readlines()]
        writer.wait()
        last = int(acknowledged[-1])

        _, examples = opener.run(lambda store: store.load_examples("ann", session.id))
        (batch,) = {name.rsplit("-", 1)[0] for _, name in names(examples)}
        assert len(examples) == 3
        assert batch in {f"{round_}-{last}", f"{round_}-{last + 1}"}
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_deleted_or_expired_is_nowhere_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    needles = {name: np.ascontiguousarray(example(name).features).tobytes() for name in "12345"}

    def found() -> set[str]:
        data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        return {name for name, needle in needles.items() if needle in data}

    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example(name) for name in "123"])
        short = await store.create("ann", new_session(ttl_s=0.05), [example("4")])
        assert found() == {"1", "2", "3", "4"}
        await store.delete_example("ann", session.id, "a", "1")
        assert found() == {"2", "3", "4"}
        await store.replace_class("ann", session.id, "a", [example("5")])
        assert found() == {"4", "5"}
        await store.delete("ann", session.id)
        assert found() == {"4"}
        await asyncio.sleep(0.1)
        await store.sweep()
        assert found() == set()
        with pytest.raises(SessionNotFound):
            await store.get("ann", short.id)

    sqlite_opener(path).run(use)


def test_what_was_deleted_while_another_process_read_is_erased_later(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    needle = np.ascontiguousarray(example("1").features).tobytes()

    def found() -> bool:
        return any(needle in file.read_bytes() for file in tmp_path.iterdir())

    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sessions").fetchall()
            await store.delete("ann", session.id)
            assert found()
        await store.sweep()
        assert not found()

    sqlite_opener(path).run(use)


def test_every_write_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """Stands for a power cut, which no test can make: the settings that SQLite promises it by."""
    database = open_database(tmp_path / "sessions.sqlite3")
    assert database.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert database.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    database.close()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    sqlite_opener(path).run(lambda store: store.check())
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreUnavailable, match="newer release"):
        SqliteStore(path, quotas=QUOTAS)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS) + 1,)


def test_every_step_of_the_schema_leads_to_the_newest(tmp_path: Path) -> None:
    for version in range(len(MIGRATIONS)):
        path = tmp_path / f"{version}.sqlite3"
        with sqlite3.connect(path) as database:
            for step in MIGRATIONS[:version]:
                database.executescript(step)
            database.execute(f"PRAGMA user_version = {version}")
        session = sqlite_opener(path).run(lambda store: store.create("ann", new_session(), [example("1")]))
        assert session.classes == {"a": 1}


def test_a_full_disk_is_an_unavailable_store_that_comes_back(tmp_path: Path) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        with disk_limit(tmp_path / "sessions.sqlite3-wal"), pytest.raises(StoreUnavailable):
            await store.add_examples("ann", session.id, [example("2" * 200_000)])
        assert await store.get("ann", session.id) == session
        assert (await store.add_examples("ann", session.id, [example("2")])).revision == 2

    sqlite_opener(tmp_path / "sessions.sqlite3").run(use)


def test_a_place_that_cannot_be_written_is_told_at_once() -> None:
    with pytest.raises(StoreUnavailable, match="/proc/x"):
        SqliteStore(Path("/proc/x/sessions.sqlite3"), quotas=QUOTAS)
