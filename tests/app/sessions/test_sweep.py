from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.sessions import changes
from app.sessions.errors import SessionNotFound
from app.sessions.store import SessionStore
from tests.support.stores import Opener, create, example

pytestmark = pytest.mark.anyio
EIGHT = [example(str(index)) for index in range(8)]


@pytest.fixture
def deleted_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collects how many rows each DELETE statement deletes, with batches of 3 rows."""
    monkeypatch.setattr(changes, "BATCH", 3)
    counts: list[int] = []

    def count(_: object, cursor: Any, statement: str, *__: object) -> None:
        if statement.startswith("DELETE"):
            counts.append(cursor.rowcount)

    sa.event.listen(sa.Engine, "after_cursor_execute", count)
    yield counts
    sa.event.remove(sa.Engine, "after_cursor_execute", count)


async def test_a_sweep_deletes_in_small_batches_and_answers_requests_between_them(
    store: SessionStore, deleted_at_once: list[int]
) -> None:
    kept = await create(store, "ann", example("1"))
    for number in range(3):
        await create(store, f"bob {number}", *EIGHT, ttl_s=0.1)
        await create(store, f"eve {number}", ttl_s=0.1)
    await asyncio.sleep(0.2)
    sweep = asyncio.ensure_future(store.sweep())
    await asyncio.sleep(0)
    assert await store.get("ann", kept.id) == kept
    assert not sweep.done()
    await sweep
    assert max(deleted_at_once) == 3
    assert sum(deleted_at_once) == 3 * 8 + 6
    assert (await store.load_examples("ann", kept.id))[0] == kept


async def test_clients_never_see_a_half_deleted_session(
    store: SessionStore, deleted_at_once: list[int]
) -> None:
    session = await create(store, "ann", *EIGHT)
    deleting = asyncio.ensure_future(store.delete("ann", session.id))
    while not deleted_at_once:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(SessionNotFound):
        await store.get("ann", session.id)
    await deleting
    assert sum(deleted_at_once) == 8 + 1


async def test_the_sweep_completes_a_delete_that_a_kill_interrupted(
    store: SessionStore, deleted_at_once: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await create(store, "ann", *EIGHT)
    with monkeypatch.context() as killed:
        killed.setattr(changes, "delete_part", lambda *_: False)
        await store.delete("ann", session.id)
    assert deleted_at_once == []
    await store.sweep()
    assert sum(deleted_at_once) == 8 + 1


async def test_several_replicas_can_sweep_at_once(
    store: SessionStore, opener: Opener, deleted_at_once: list[int]
) -> None:
    for number in range(8):
        await create(store, f"owner {number}", *EIGHT, ttl_s=0.1)
    await asyncio.sleep(0.2)
    replicas = [opener.open() for _ in range(3)]
    await asyncio.gather(*(replica.sweep() for replica in (store, *replicas)))
    await store.sweep()
    assert sum(deleted_at_once) == 8 * 9
    for replica in replicas:
        await replica.close()


async def test_sqlites_file_shrinks_when_sessions_expire(sqlite_store: SessionStore, tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    await sqlite_store.sweep()
    empty_bytes = path.stat().st_size
    for owner in ("ann", "bob"):
        features = [example(str(index), numbers=2000) for index in range(2)]
        await create(sqlite_store, owner, *features, ttl_s=0.5)
    await asyncio.sleep(0.6)
    await sqlite_store.sweep()
    assert path.stat().st_size == empty_bytes
    assert path.with_name(f"{path.name}-wal").stat().st_size == 0
