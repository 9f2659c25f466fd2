from __future__ import annotations

import asyncio

from app.sessions.store import SessionStore
from tests.support.stores import AMPLE, Opener, create, example, names
from tests.support.writers import kill_writers, run_in_processes

PROCESSES = 4
WRITES = 5


def test_kill_9_right_after_an_acknowledged_write_loses_nothing(opener: Opener) -> None:
    kill_writers(opener, 20)


async def write_and_read(store: SessionStore, number: int) -> None:
    """Add to the session that all processes share, and create and delete other sessions."""
    ((shared, *_), _) = await store.list_page("all", limit=1, cursor=None)
    for write in range(WRITES):
        await store.add_examples("all", shared.id, [example(f"{number}-{write}", str(number))])
        expired = await create(store, "all", example("1"), ttl_s=0.01)
        own = await create(store, f"own {number}", example("1"))
        await asyncio.sleep(0.01)
        await store.sweep()
        assert expired.id not in await store.revisions([expired.id])
        assert names((await store.load_examples(f"own {number}", own.id))[1]) == [("a", "1")]
        await store.delete(f"own {number}", own.id)


def test_several_processes_on_one_store_lose_nothing(opener: Opener) -> None:
    ample = Opener(opener.url, AMPLE)
    shared = ample.run(lambda store: create(store, "all"))
    run_in_processes(ample, write_and_read, PROCESSES)
    session, examples = ample.run(lambda store: store.load_examples("all", shared.id))
    assert session.revision == PROCESSES * WRITES
    assert sorted(names(examples)) == [
        (str(number), f"{number}-{write}") for number in range(PROCESSES) for write in range(WRITES)
    ]


async def create_own(store: SessionStore, number: int) -> None:
    await create(store, f"owner {number}", example("1"))


def test_replicas_that_start_at_once_on_a_new_database_share_it(opener: Opener) -> None:
    run_in_processes(opener, create_own, 6)
    assert opener.run(lambda store: store.count()) == 6
