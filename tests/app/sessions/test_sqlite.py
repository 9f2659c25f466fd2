"""What holds of SQLite's files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.sessions.errors import SessionNotFound, StoreUnavailable
from app.sessions.sqlite import SqliteDatabase
from app.sessions.store import SessionStore, open_store
from tests.support.stores import QUOTAS, Opener, example, names, new_session, sqlite_opener

DOCS = Path(__file__).parents[3] / "docs" / "sessions.md"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """By default, everyone may read the files of this process."""
    before = os.umask(0o000)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.usefixtures("open_umask")
def test_only_the_service_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    async def use(store: SessionStore) -> None:
        await store.create("ann", new_session(), [example("1")])
        assert modes(folder) == dict.fromkeys(
            ("sessions.sqlite3", "sessions.sqlite3-wal", "sessions.sqlite3-shm", "sessions.sqlite3-reserve"),
            0o600,
        )

    sqlite_opener(folder).run(use)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "sessions.sqlite3").chmod(0o644)
    sqlite_opener(folder).run(use)


@pytest.mark.usefixtures("open_umask")
def test_the_documented_backup_works_again_and_again_beside_a_running_store(tmp_path: Path) -> None:
    (command,) = re.findall(r"^    python3 -c \"(.*backup.*)\"$", DOCS.read_text(), re.MULTILINE)
    copy = tmp_path / "copy"
    copy.mkdir()
    code = command.replace("PATH", f"{tmp_path}/sessions.sqlite3").replace("COPY", f"{copy}/sessions.sqlite3")

    async def use(store: SessionStore) -> None:
        for number in (1, 2):
            await store.create("ann", new_session(), [example(str(number))])
            await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
            assert modes(copy)["sessions.sqlite3"] == 0o600

    async def read(store: SessionStore) -> None:
        sessions, _ = await store.list_page("ann", limit=9, cursor=None)
        held = [names((await store.load_examples("ann", session.id))[1]) for session in sessions]
        assert held == [[("a", "1")], [("a", "2")]]

    sqlite_opener(tmp_path).run(use)
    sqlite_opener(copy).run(read)


def test_what_is_deleted_or_expired_is_nowhere_in_the_files(tmp_path: Path) -> None:
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

    sqlite_opener(tmp_path).run(use)


def test_what_was_deleted_while_another_process_read_is_erased_by_the_next_sweep(tmp_path: Path) -> None:
    needle = np.ascontiguousarray(example("1").features).tobytes()

    def found() -> bool:
        return any(needle in file.read_bytes() for file in tmp_path.iterdir())

    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        other = sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)
        with contextlib.closing(other) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM sessions").fetchall()
            await store.delete("ann", session.id)
            assert found()
        await store.sweep()
        assert not found()

    sqlite_opener(tmp_path).run(use)


def test_every_write_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """No test can cut the power: these are the settings with which SQLite promises to survive it."""

    async def pragmas() -> list[object]:
        database = SqliteDatabase(tmp_path / "sessions.sqlite3")
        names = ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "auto_vacuum")
        try:
            return await database.read(
                lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
            )
        finally:
            await database.close()

    assert asyncio.run(pragmas()) == ["wal", 2, 1, 1, 2]


def test_a_write_that_waits_too_long_for_another_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.sqlite.BUSY_TIMEOUT_MS", 50)

    async def use(store: SessionStore) -> None:
        other = sqlite3.connect(tmp_path / "sessions.sqlite3", isolation_level=None)
        with contextlib.closing(other) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.create("ann", new_session())
        await store.create("ann", new_session())

    sqlite_opener(tmp_path).run(use)


def test_a_path_that_cannot_be_written_is_reported_at_once() -> None:
    with pytest.raises(StoreUnavailable, match="/proc/x"):
        open_store("sqlite:////proc/x/sessions.sqlite3", quotas=QUOTAS)


def test_paths_of_any_characters_work(tmp_path: Path) -> None:
    folder = tmp_path / "ä ?mode=ro#%20"
    opener = Opener(f"sqlite:///{folder}/sessions.sqlite3")
    session = opener.run(lambda store: store.create("ann", new_session()))
    assert opener.run(lambda store: store.get("ann", session.id)) == session
    assert (folder / "sessions.sqlite3").is_file()
