"""What the session store promises, on each database."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable

import pytest

from app.sessions import session as stored
from app.sessions.errors import (
    ByteLimit,
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.store import SessionStore
from tests.support.stores import QUOTAS, Opener, example, names, new_session


async def raises(error: type[Exception], call: Awaitable[object]) -> None:
    with pytest.raises(error):
        await call


def test_what_was_written_is_there_for_another_replica_and_after_a_restart(
    opener: Opener, owner: str
) -> None:
    async def write(store: SessionStore) -> stored.Session:
        created = await store.create(owner, new_session(name="n", ttl_s=600))
        return await store.add_examples(owner, created.id, [example("1"), example("2", "笑")])

    async def read(store: SessionStore) -> None:
        session, examples = await store.load_examples(owner, written.id)
        assert session == written == await store.get(owner, written.id)
        assert names(examples) == [("a", "1"), ("笑", "2")]

    written = opener.run(write)
    assert (written.name, written.metadata, written.classes) == ("n", {"k": "v"}, {"a": 1, "笑": 1})
    assert written.expires_at is not None
    assert (written.expires_at - written.created_at).total_seconds() == pytest.approx(600)
    opener.run(read)


def test_each_change_raises_the_revision_by_one(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> list[int]:
        session = await store.create(owner, new_session())
        seen = [session.revision]
        for change in (
            store.add_examples(owner, session.id, [example("1"), example("2"), example("3", "b")]),
            store.replace_class(owner, session.id, "b", [example("4", "b")]),
            store.delete_example(owner, session.id, "a", "1"),
            store.delete_class(owner, session.id, "b"),
        ):
            await change
            seen.append((await store.get(owner, session.id)).revision)
        return seen

    assert opener.run(use) == [0, 1, 2, 3, 4]


def test_a_refused_write_leaves_nothing_behind(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create(owner, new_session())
        before = await store.add_examples(owner, session.id, [example("1"), example("2", "b")])

        async def refused(error: type[Exception], call: Awaitable[object]) -> None:
            await raises(error, call)
            after, examples = await store.load_examples(owner, session.id)
            assert after == before
            assert names(examples) == [("a", "1"), ("b", "2")]

        add, replace = store.add_examples, store.replace_class
        await refused(ExampleExists, add(owner, session.id, [example("3"), example("1")]))
        await refused(ExampleExists, add(owner, session.id, [example("3"), example("3")]))
        await refused(ExampleExists, replace(owner, session.id, "a", [example("2")]))
        many = [example(str(index)) for index in range(10, 10 + QUOTAS.examples)]
        await refused(ExampleLimit, add(owner, session.id, many))
        await refused(ExampleLimit, replace(owner, session.id, "a", many))
        classes = [example(str(index), str(index)) for index in range(10, 10 + QUOTAS.classes)]
        await refused(ClassLimit, add(owner, session.id, classes))
        await refused(ClassNotFound, store.delete_class(owner, session.id, "c"))
        await refused(ClassNotFound, store.delete_example(owner, session.id, "c", "1"))
        await refused(ExampleNotFound, store.delete_example(owner, session.id, "b", "1"))

    opener.run(use)


def test_a_session_can_be_created_with_its_examples_or_not_at_all(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        created = await store.create(owner, new_session(), [example("1"), example("2", "b")])
        assert (created.revision, created.classes) == (1, {"a": 1, "b": 1})
        assert names((await store.load_examples(owner, created.id))[1]) == [("a", "1"), ("b", "2")]
        many = [example(str(index)) for index in range(QUOTAS.examples + 1)]
        await raises(ExampleLimit, store.create(owner, new_session(), many))
        assert await store.list_page(owner, limit=9, cursor=None) == ([created], None)

    opener.run(use)


def test_another_owner_finds_nothing(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create(owner, new_session(), [example("1")])
        other = owner + "?"
        for call in (
            store.get(other, session.id),
            store.load_examples(other, session.id),
            store.example_ids(other, session.id, "a"),
            store.add_examples(other, session.id, [example("2")]),
            store.replace_class(other, session.id, "a", [example("2")]),
            store.delete_example(other, session.id, "a", "1"),
            store.delete_class(other, session.id, "a"),
            store.delete(other, session.id),
        ):
            await raises(SessionNotFound, call)
        assert await store.list_page(other, limit=9, cursor=None) == ([], None)
        assert (await store.get(owner, session.id)) == session

    opener.run(use)


def test_listing_goes_on_at_the_cursor_whatever_is_deleted_or_created(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        first, second, third, fourth = [await store.create(owner, new_session()) for _ in range(4)]
        page, cursor = await store.list_page(owner, limit=2, cursor=None)
        assert page == [first, second]
        for gone in (second, third):
            await store.delete(owner, gone.id)
        fifth = await store.create(owner, new_session())
        assert await store.list_page(owner, limit=2, cursor=cursor) == ([fourth, fifth], None)

    opener.run(use)


def test_an_expired_session_is_gone_and_makes_room(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        kept = [await store.create(owner, new_session()) for _ in range(QUOTAS.sessions - 1)]
        short = await store.create(owner, new_session(ttl_s=1.5), [example("1")])
        await store.add_examples(owner, short.id, [example("2")])
        await raises(SessionLimit, store.create(owner, new_session()))
        ids = [session.id for session in (*kept, short)]
        assert await store.revisions(ids) == {**dict.fromkeys(ids, 0), short.id: 2}
        await asyncio.sleep(1.6)
        await raises(SessionNotFound, store.get(owner, short.id))
        await raises(SessionNotFound, store.load_examples(owner, short.id))
        await raises(SessionNotFound, store.add_examples(owner, short.id, [example("3")]))
        assert await store.revisions(ids) == {session.id: 0 for session in kept}
        assert await store.list_page(owner, limit=9, cursor=None) == (kept, None)
        await store.create(owner, new_session())
        await raises(SessionLimit, store.create(owner, new_session()))

    opener.run(use)


def test_sessions_of_all_owners_are_counted_while_they_last(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        kept = await store.create(owner, new_session(ttl_s=600), [example("1")])
        gone = await store.create(owner + "?", new_session())
        await store.create(owner, new_session(ttl_s=0.5))
        assert await store.count() == 3
        await store.add_examples(owner, kept.id, [example("2")])
        await store.delete(owner + "?", gone.id)
        await asyncio.sleep(0.6)
        assert await store.count() == 1
        await store.sweep()
        assert await store.count() == 1

    opener.run(use)


def test_writers_at_once_lose_nothing(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create(owner, new_session())
        replicas = [opener.open() for _ in range(3)]
        try:
            await asyncio.gather(
                *(
                    replicas[index % 3].add_examples(
                        owner, session.id, [example(str(index), f"c{index % 4}")]
                    )
                    for index in range(8)
                )
            )
        finally:
            for replica in replicas:
                await replica.close()
        after, examples = await store.load_examples(owner, session.id)
        assert after.revision == 8
        assert sorted(kept.example_id for kept in examples) == [str(index) for index in range(8)]

    opener.run(use)


def test_a_cancelled_write_is_made_whole_or_not_at_all(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create(owner, new_session())
        for attempt in range(4):
            ids = [f"{attempt}-{index}" for index in range(2)]
            write = asyncio.ensure_future(
                store.add_examples(owner, session.id, [example(name) for name in ids])
            )
            for _ in range(1 + attempt):
                await asyncio.sleep(0)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        await asyncio.sleep(0.2)
        after, examples = await store.load_examples(owner, session.id)
        assert after.revision > 0, "what was begun goes on"
        assert len(names(examples)) == 2 * after.revision

    opener.run(use)


def test_a_deleted_session_is_gone_for_every_replica(opener: Opener, owner: str) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create(owner, new_session(), [example("1")])
        await store.delete(owner, session.id)
        await raises(SessionNotFound, store.get(owner, session.id))
        await raises(SessionNotFound, store.delete(owner, session.id))
        assert await store.revisions([session.id]) == {}
        await store.sweep()
        await store.check()

    opener.run(use)


def test_an_owner_stores_only_as_many_bytes_as_one_owner_may(opener: Opener, owner: str) -> None:
    """Each example has 48 bytes, each session's metadata 10."""

    async def use(store: SessionStore) -> None:
        first = await store.create(owner, new_session(), [example("1"), example("2", "b")])
        await store.create(owner, new_session(ttl_s=0.5), [example("1")])
        second = await store.create(owner, new_session())
        await raises(ByteLimit, store.add_examples(owner, second.id, [example("1")]))
        await raises(ByteLimit, store.create(owner, new_session(), [example("1")]))
        assert await store.get(owner, second.id) == second
        await store.create(owner + "?", new_session(), [example("1"), example("2")])
        await store.replace_class(owner, first.id, "a", [example("3")])
        await store.delete_class(owner, first.id, "b")
        second = await store.add_examples(owner, second.id, [example("1")])
        await raises(ByteLimit, store.add_examples(owner, second.id, [example("2")]))
        await asyncio.sleep(0.6)
        second = await store.add_examples(owner, second.id, [example("2")])
        await raises(ByteLimit, store.add_examples(owner, second.id, [example("3")]))
        await store.delete(owner, first.id)
        await store.add_examples(owner, second.id, [example("3")])

    bytes_of_three_examples = 3 * 48 + 3 * 10 + 20
    Opener(opener.url, dataclasses.replace(QUOTAS, bytes=bytes_of_three_examples)).run(use)
