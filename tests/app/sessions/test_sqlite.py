"""What the store promises about SQLite's files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.sessions.errors import StoreUnavailable
from app.sessions.sqlite import SqliteDatabase
from app.sessions.store import SessionStore, open_store
from csrn_client.schemas import ClassChange, SessionChange
from tests.support.stores import QUOTAS, Opener, create, example, names, sqlite_opener

pytestmark = pytest.mark.anyio
DOCS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Without further measures, everyone may read the files of this process."""
    before = os.umask(0o000)
    yield
    os.umask(before)


@pytest.fixture
def found(tmp_path: Path) -> Callable[[], str]:
    """Returns the ids of those of the examples 1 to 5 whose features are in the store's files."""
    features = {name: example(name).features.tobytes() for name in "12345"}

    def find() -> str:
        data = content(tmp_path)
        return "".join(name for name, needle in features.items() if needle in data)

    return find


def content(folder: Path) -> bytes:
    """What all files in the folder contain."""
    return b"".join(file.read_bytes() for file in folder.iterdir())


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@contextlib.contextmanager
def other_process(folder: Path, *statements: str) -> Iterator[None]:
    """A second connection to the file, in a transaction."""
    with contextlib.closing(sqlite3.connect(folder / "sessions.sqlite3", isolation_level=None)) as other:
        for statement in statements:
            other.execute(statement).fetchall()
        yield


@pytest.mark.usefixtures("open_umask")
def test_only_the_user_of_the_service_may_read_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "new"

    async def use(store: SessionStore) -> None:
        await create(store, "ann", example("1"))
        files = (
            "sessions.sqlite3",
            "sessions.sqlite3-wal",
            "sessions.sqlite3-shm",
            "sessions.sqlite3-reserve",
        )
        assert modes(folder) == dict.fromkeys(files, 0o600)

    sqlite_opener(folder).run(use)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "sessions.sqlite3").chmod(0o644)
    sqlite_opener(folder).run(use)


@pytest.mark.usefixtures("open_umask")
async def test_the_documented_backup_works_twice_while_the_store_is_open(
    sqlite_store: SessionStore, tmp_path: Path
) -> None:
    (command,) = re.findall(r"^python3 -c \"(.*backup.*)\"$", DOCS.read_text(), re.MULTILINE)
    copy = tmp_path / "copy"
    copy.mkdir()
    code = command.replace("PATH", f"{tmp_path}/sessions.sqlite3").replace("COPY", f"{copy}/sessions.sqlite3")
    for number in (1, 2):
        await create(sqlite_store, "ann", example(str(number)))
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)
        assert modes(copy)["sessions.sqlite3"] == 0o600
    restored = sqlite_opener(copy).open()
    sessions, _ = await restored.list_page("ann", limit=9, cursor=None)
    held = [names((await restored.load_examples("ann", session.id))[1]) for session in sessions]
    assert held == [[("a", "1")], [("a", "2")]]
    await restored.close()


async def test_deleted_and_expired_features_leave_the_files(
    sqlite_store: SessionStore, found: Callable[[], str]
) -> None:
    session = await create(sqlite_store, "ann", *map(example, "123"))
    await create(sqlite_store, "ann", example("4"), ttl_s=0.05)
    assert found() == "1234"
    await sqlite_store.delete_example("ann", session.id, "a", "1")
    assert found() == "234"
    await sqlite_store.replace_class("ann", session.id, "a", [example("5")])
    assert found() == "45"
    await sqlite_store.delete("ann", session.id)
    assert found() == "4"
    await asyncio.sleep(0.1)
    await sqlite_store.sweep()
    assert found() == ""


async def test_replaced_names_and_metadata_leave_the_files(
    sqlite_store: SessionStore, tmp_path: Path
) -> None:
    session = await create(sqlite_store, "ann", example("1", "old label"))
    before = SessionChange(name="old name", metadata={"k": "old metadata"})
    await sqlite_store.update("ann", session.id, before)
    await sqlite_store.update("ann", session.id, SessionChange(name="new name", metadata={"k": "v"}))
    await sqlite_store.update_class("ann", session.id, "old label", ClassChange(label="new label"))
    data = content(tmp_path)
    assert b"new name" in data
    assert b"new label" in data
    assert [old for old in (b"old name", b"old metadata", b"old label") if old in data] == []


async def test_features_deleted_while_another_process_reads_leave_the_files_with_the_next_sweep(
    sqlite_store: SessionStore, tmp_path: Path, found: Callable[[], str]
) -> None:
    session = await create(sqlite_store, "ann", example("1"))
    with other_process(tmp_path, "BEGIN", "SELECT * FROM sessions"):
        await sqlite_store.delete("ann", session.id)
        assert found() == "1"
    await sqlite_store.sweep()
    assert found() == ""


async def test_every_write_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """No test can cut the power: these are the settings with which SQLite promises to survive it."""
    database = SqliteDatabase(tmp_path / "sessions.sqlite3")
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    assert expected == await database.read(
        lambda c: {name: c.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in expected}
    )
    await database.close()


async def test_a_write_does_not_wait_long_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.sqlite.BUSY_TIMEOUT_MS", 50)
    store = sqlite_opener(tmp_path).open()
    with other_process(tmp_path, "BEGIN IMMEDIATE"), pytest.raises(StoreUnavailable, match="locked"):
        await create(store)
    await create(store)
    await store.close()


async def test_a_folder_that_disappears_makes_the_store_unavailable_not_full(
    sqlite_store: SessionStore, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path)
    for call in (create(sqlite_store), sqlite_store.check()):
        with pytest.raises(StoreUnavailable, match="No such file") as caught:
            await call
        assert caught.type is StoreUnavailable


def test_a_path_that_cannot_be_written_is_reported_at_once() -> None:
    with pytest.raises(StoreUnavailable, match="/proc/x"):
        open_store("sqlite:////proc/x/sessions.sqlite3", quotas=QUOTAS)


def test_a_path_may_have_any_characters(tmp_path: Path) -> None:
    folder = tmp_path / "ä ?mode=ro#%20"
    opener = Opener(f"sqlite:///{folder}/sessions.sqlite3")
    session = opener.run(create)
    assert opener.run(lambda store: store.get("ann", session.id)) == session
    assert (folder / "sessions.sqlite3").is_file()
