"""A store on a full disk keeps everything and can be emptied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.sessions.errors import StoreFull
from app.sessions.store import SessionStore
from csrn_client.schemas import Session
from tests.support.postgresql import PostgresqlServer, needs_postgresql
from tests.support.small_disk import fill, small_disk, small_files
from tests.support.stores import AMPLE, Opener, classes, create, example, names, sqlite_opener

pytestmark = pytest.mark.anyio
FEATURES = [example(str(index), numbers=13_000) for index in range(40)]
"""Examples about as large as with the default weights"""


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk() as folder:
        yield folder


@pytest.fixture(params=["disk", "file"])
def small_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk, or one where SQLite's files stay small."""
    with contextlib.ExitStack() as limit:
        if request.param == "disk":
            tmp_path = limit.enter_context(small_disk())
        else:
            limit.enter_context(small_files())
        yield tmp_path


@pytest.fixture
async def small_store(small_folder: Path) -> AsyncIterator[SessionStore]:
    store = sqlite_opener(small_folder, AMPLE).open()
    yield store
    await store.close()


async def fill_with_sessions(
    store: SessionStore, *, examples: int = 8, ttl_s: float | None = None
) -> list[Session]:
    """The acknowledged sessions, after which not even a single example can be stored."""
    acknowledged: list[Session] = []
    for count in (examples, 1):
        with contextlib.suppress(StoreFull):
            while True:
                acknowledged.append(await create(store, "ann", *FEATURES[:count], ttl_s=ttl_s))
    assert len(acknowledged) > 2
    return acknowledged


async def check_sessions(store: SessionStore, sessions: list[Session]) -> None:
    for session in sessions:
        found, examples = await store.load_examples("ann", session.id)
        assert found == session
        assert len(names(examples)) == sum(classes(session).values())


async def check_refusal(store: SessionStore) -> None:
    with pytest.raises(StoreFull):
        await store.check()
    with pytest.raises(StoreFull):
        await create(store, "bob", *FEATURES[:8])


async def check_room(store: SessionStore) -> None:
    await store.check()
    session = await create(store, "bob", FEATURES[0])
    await store.delete("bob", session.id)


@pytest.mark.parametrize("examples", [2, 8, 40])
async def test_a_full_store_loses_nothing_and_can_be_emptied(
    small_store: SessionStore, small_folder: Path, examples: int
) -> None:
    sessions = await fill_with_sessions(small_store, examples=examples)
    await check_refusal(small_store)
    await check_sessions(small_store, sessions)
    for deleted in [*sessions]:
        sessions.remove(deleted)
        await small_store.delete("ann", deleted.id)
        assert (small_folder / "sessions.sqlite3-wal").stat().st_size == 0
        await check_sessions(small_store, sessions[:1] + sessions[-1:])
    await check_room(small_store)


async def test_a_sweep_empties_a_full_store(small_store: SessionStore) -> None:
    await fill_with_sessions(small_store, ttl_s=1)
    while await small_store.count():  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await small_store.sweep()
    await check_room(small_store)


async def test_classes_and_examples_can_be_deleted_from_a_full_store(small_store: SessionStore) -> None:
    first, second, *_ = await fill_with_sessions(small_store)
    await small_store.delete_class("ann", first.id, "a")
    await small_store.delete_example("ann", second.id, "a", "1")
    assert classes(await small_store.get("ann", first.id)) == {}
    assert classes(await small_store.get("ann", second.id)) == {"a": 7}


def test_a_store_on_a_disk_that_another_program_fills_reports_it_and_restarts(disk: Path) -> None:
    opener = sqlite_opener(disk, AMPLE)

    async def write(store: SessionStore) -> list[Session]:
        sessions = [await create(store, "ann", *FEATURES[:8]) for _ in range(6)]
        fill(disk)
        await check_refusal(store)
        await store.delete("ann", sessions.pop().id)
        return sessions

    async def read_and_delete(store: SessionStore) -> None:
        await check_sessions(store, sessions)
        await store.delete("ann", sessions.pop().id)
        await check_sessions(store, sessions)

    async def use_again(store: SessionStore) -> None:
        (disk / "other").unlink()
        await check_room(store)
        await check_sessions(store, sessions)

    sessions = opener.run(write)
    fill(disk)
    opener.run(read_and_delete)
    opener.run(read_and_delete)
    opener.run(use_again)


@needs_postgresql
async def test_a_full_disk_of_postgresql_is_reported_until_it_has_room_again(
    disk: Path, postgresql: PostgresqlServer
) -> None:
    url = postgresql.new_database(folder=disk)
    other = disk / "other"
    other.write_bytes(bytes(2**17))
    store = Opener(url, AMPLE).open()
    sessions = await fill_with_sessions(store)
    await check_refusal(store)
    await check_sessions(store, sessions)
    for session in sessions:
        await store.delete("ann", session.id)
    other.unlink()  # VACUUM needs a few pages
    postgresql.execute("VACUUM", url)
    await check_room(store)
    await store.close()
    postgresql.drop_database(url)
