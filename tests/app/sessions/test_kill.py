from __future__ import annotations

from app.sessions.store import SessionStore
from tests.support.stores import AMPLE, Opener, example, names, new_session
from tests.support.writers import kill_writers, run_in_processes

PROCESSES = 4
WRITES = 5


def test_kill_9_right_after_an_acknowledged_write_loses_nothing(opener: Opener) -> None:
    kill_writers(opener, 20)


async def write_and_read(store: SessionStore, number: int) -> None:
    """One process's share: it adds to the session of all, and creates and deletes sessions of its own."""
    ((shared, *_), _) = await store.list_page("all", limit=1, cursor=None)
    for write in range(WRITES):
        await store.add_examples("all", shared.id, [example(f"{number}-{write}", str(number))])
        created = await store.create("all", new_session(ttl_s=0.01), [example("1")])
        own = await store.create(f"own {number}", new_session(), [example("1")])
        await store.sweep()
        assert created.id not in await store.revisions([created.id])
        assert names((await store.load_examples(f"own {number}", own.id))[1]) == [("a", "1")]
        await store.delete(f"own {number}", own.id)


def test_several_processes_on_one_store_lose_nothing(opener: Opener) -> None:
    ample = Opener(opener.url, AMPLE)
    shared = ample.run(lambda store: store.create("all", new_session()))
    run_in_processes(ample, write_and_read, PROCESSES)
    session, examples = ample.run(lambda store: store.load_examples("all", shared.id))
    assert session.revision == PROCESSES * WRITES
    assert sorted(names(examples)) == [
        (str(number), f"{number}-{write}") for number in range(PROCESSES) for write in range(WRITES)
    ]


async def create(store: SessionStore, number: int) -> None:
    await store.create(f"owner {number}", new_session(), [example("1")])


def test_replicas_that_start_at_once_on_a_new_database_share_it(opener: Opener) -> None:
    run_in_processes(opener, create, 6)
    assert opener.run(lambda store: store.count()) == 6
