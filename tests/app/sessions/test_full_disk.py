"""A store whose disk is full keeps all that it has, and can be emptied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.sessions.errors import StoreFull
from app.sessions.session import Session
from app.sessions.store import SessionStore
from tests.support.postgresql import PostgresqlServer, needs_postgresql
from tests.support.small_disk import fill, small_disk, small_files
from tests.support.stores import AMPLE, Opener, example, names, new_session, sqlite_opener

NUMBERS = 13_000
"""About as many as the default weights have"""


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk() as folder:
        yield folder


@pytest.fixture(params=["disk", "file"])
def full_soon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """SQLite on a small disk, or in a file that stays small."""
    if request.param == "disk":
        yield sqlite_opener(request.getfixturevalue("disk"), AMPLE)
    else:
        with small_files():
            yield sqlite_opener(tmp_path, AMPLE)


async def fill_with_sessions(
    store: SessionStore, *, examples: int = 8, ttl_s: float | None = None
) -> list[Session]:
    """What was acknowledged until the store had no room for even one example more."""
    acknowledged: list[Session] = []
    for count in (examples, 1):
        added = [example(str(index), numbers=NUMBERS) for index in range(count)]
        with contextlib.suppress(StoreFull):
            while True:
                acknowledged.append(await store.create("ann", new_session(ttl_s), added))
    assert len(acknowledged) > 2
    return acknowledged


async def check_sessions(store: SessionStore, sessions: list[Session]) -> None:
    for session in sessions:
        found, examples = await store.load_examples("ann", session.id)
        assert found == session
        assert len(names(examples)) == sum(session.classes.values())


async def refuses_to_store(store: SessionStore) -> None:
    with pytest.raises(StoreFull):
        await store.check()
    with pytest.raises(StoreFull):
        await store.create("bob", new_session(), [example(str(n), numbers=NUMBERS) for n in range(8)])


async def can_store(store: SessionStore) -> None:
    await store.check()
    session = await store.create("bob", new_session(), [example("1", numbers=NUMBERS)])
    await store.delete("bob", session.id)


@pytest.mark.parametrize("examples", [2, 8, 40])
def test_a_full_store_keeps_what_was_acknowledged_and_can_be_emptied(
    full_soon: Opener, examples: int
) -> None:
    log = Path(f"{full_soon.url.removeprefix('sqlite:///')}-wal")

    def check_log() -> None:
        assert log.stat().st_size == 0

    async def use(store: SessionStore) -> None:
        sessions = await fill_with_sessions(store, examples=examples)
        await refuses_to_store(store)
        await check_sessions(store, sessions)
        while sessions:
            await store.delete("ann", sessions.pop().id)
            check_log()
            await check_sessions(store, sessions[-1:])
        await can_store(store)

    full_soon.run(use)


def test_a_sweep_empties_a_full_store(full_soon: Opener) -> None:
    async def use(store: SessionStore) -> None:
        await fill_with_sessions(store, ttl_s=0.5)
        while await store.count():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await store.sweep()
        await can_store(store)

    full_soon.run(use)


def test_classes_and_examples_can_be_deleted_from_a_full_store(full_soon: Opener) -> None:
    async def use(store: SessionStore) -> None:
        first, second, *_ = await fill_with_sessions(store)
        await store.delete_class("ann", first.id, "a")
        await store.delete_example("ann", second.id, "a", "1")
        assert (await store.get("ann", first.id)).classes == {}
        assert (await store.get("ann", second.id)).classes == {"a": 7}

    full_soon.run(use)


def test_a_disk_that_another_program_has_filled_can_be_emptied_and_survives_a_restart(disk: Path) -> None:
    opener = sqlite_opener(disk, AMPLE)

    async def write(store: SessionStore) -> list[Session]:
        added = [example(str(index), numbers=NUMBERS) for index in range(8)]
        sessions = [await store.create("ann", new_session(), added) for _ in range(6)]
        fill(disk)
        await refuses_to_store(store)
        await store.delete("ann", sessions.pop().id)
        return sessions

    async def read_and_delete(store: SessionStore) -> None:
        await check_sessions(store, sessions)
        await store.delete("ann", sessions.pop().id)
        await check_sessions(store, sessions)

    async def use_again(store: SessionStore) -> None:
        (disk / "other").unlink()
        await can_store(store)
        await check_sessions(store, sessions)

    sessions = opener.run(write)
    fill(disk)
    opener.run(read_and_delete)
    opener.run(read_and_delete)
    opener.run(use_again)


@needs_postgresql
def test_a_full_disk_of_postgresql_is_reported_until_it_has_room_again(
    disk: Path, postgresql: PostgresqlServer
) -> None:
    url = postgresql.new_database(folder=disk)
    other = disk / "other"
    other.write_bytes(bytes(2**17))

    async def use(store: SessionStore) -> None:
        sessions = await fill_with_sessions(store)
        await refuses_to_store(store)
        await check_sessions(store, sessions)
        while sessions:
            await store.delete("ann", sessions.pop().id)
        other.unlink()  # VACUUM needs a few pages
        postgresql.execute("VACUUM", url)
        await can_store(store)

    try:
        Opener(url, AMPLE).run(use)
    finally:
        postgresql.drop_database(url)
