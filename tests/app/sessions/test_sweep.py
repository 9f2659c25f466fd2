from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.sessions import queries
from app.sessions.errors import SessionNotFound
from app.sessions.store import SessionStore
from tests.support.stores import AMPLE, Opener, example, new_session, sqlite_opener


@pytest.fixture
def deleted_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collects how many rows each DELETE statement deletes; batches are made small."""
    monkeypatch.setattr(queries, "BATCH_EXAMPLES", 3)
    monkeypatch.setattr(queries, "BATCH_SESSIONS", 3)
    counts: list[int] = []

    def count(_: object, cursor: Any, statement: str, *__: object) -> None:
        if statement.startswith("DELETE"):
            counts.append(cursor.rowcount)

    sa.event.listen(sa.Engine, "after_cursor_execute", count)
    yield counts
    sa.event.remove(sa.Engine, "after_cursor_execute", count)


def test_expired_sessions_are_deleted_in_small_batches(opener: Opener, deleted_at_once: list[int]) -> None:
    async def use(store: SessionStore) -> None:
        kept = await store.create("ann", new_session(), [example("1")])
        for _ in range(2):
            await store.create("ann", new_session(ttl_s=0.5), [example(str(index)) for index in range(8)])
        for number in range(4):
            await store.create(f"bob {number}", new_session(ttl_s=0.2))
        await asyncio.sleep(0.6)
        await store.sweep()
        assert max(deleted_at_once) == 3
        assert sum(deleted_at_once) == 2 * 8 + 2 + 4
        assert (await store.load_examples("ann", kept.id))[0] == kept

    opener.run(use)


def test_a_session_that_is_deleted_in_parts_is_gone_after_the_first(
    opener: Opener, deleted_at_once: list[int]
) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example(str(index)) for index in range(8)])
        deleting = asyncio.ensure_future(store.delete("ann", session.id))
        while not deleted_at_once:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with pytest.raises(SessionNotFound):
            await store.get("ann", session.id)
        await deleting
        assert deleted_at_once == [3, 3, 2, 1]

    opener.run(use)


def test_what_was_half_deleted_when_a_process_was_killed_is_deleted_by_the_next_sweep(
    opener: Opener, deleted_at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example(str(index)) for index in range(8)])
        with monkeypatch.context() as killed:
            killed.setattr("app.sessions.store.queries.delete_part", _only_the_first_part(session.id))
            await store.delete("ann", session.id)
        assert deleted_at_once == [3]
        await store.sweep()
        assert sum(deleted_at_once) == 8 + 1

    opener.run(use)


def _only_the_first_part(_: str) -> Any:
    whole = queries.delete_part

    def part(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
        assert whole(connection, condition)
        return False

    return part


def test_requests_are_answered_between_the_batches_of_a_sweep(
    opener: Opener, deleted_at_once: list[int]
) -> None:
    async def use(store: SessionStore) -> None:
        kept = await store.create("ann", new_session())
        for number in range(4):
            await store.create(f"o{number}", new_session(ttl_s=0.1), [example(str(i)) for i in range(8)])
        await asyncio.sleep(0.2)
        sweep = asyncio.ensure_future(store.sweep())
        await asyncio.sleep(0)
        assert await store.get("ann", kept.id) == kept
        assert not sweep.done()
        await sweep
        assert sum(deleted_at_once) == 4 * 9

    opener.run(use)


def test_sweeps_of_several_replicas_do_not_get_in_each_others_way(
    opener: Opener, deleted_at_once: list[int]
) -> None:
    async def use(store: SessionStore) -> None:
        for number in range(8):
            await store.create(f"o{number}", new_session(ttl_s=0.1), [example(str(i)) for i in range(8)])
        await asyncio.sleep(0.2)
        replicas = [opener.open() for _ in range(3)]
        await asyncio.gather(*(replica.sweep() for replica in (store, *replicas)))
        await store.sweep()
        assert sum(deleted_at_once) == 8 * 9
        for replica in replicas:
            await replica.close()

    opener.run(use)


def test_the_file_shrinks_when_sessions_have_expired(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    sizes: list[int] = []

    async def use(store: SessionStore) -> None:
        kept = await store.create("ann", new_session(), [example("1", numbers=13_000)])
        sizes.append(path.stat().st_size)
        for _ in range(3):
            added = [example(str(index), numbers=13_000) for index in range(40)]
            await store.create("ann", new_session(ttl_s=1), added)
        await asyncio.sleep(1)
        await store.sweep()
        sizes.append(path.stat().st_size)
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0
        assert (await store.load_examples("ann", kept.id))[0] == kept

    sqlite_opener(tmp_path, AMPLE).run(use)
    assert sizes[1] < sizes[0] + 100_000
