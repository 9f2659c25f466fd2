"""What the session store promises, on each database."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
from collections.abc import Awaitable

import pytest

from app.sessions.errors import (
    ByteLimit,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.store import SessionStore
from tests.support.stores import QUOTAS, Opener, classes, create, example, names

pytestmark = pytest.mark.anyio


async def raises(error: type[Exception], call: Awaitable[object], match: str | None = None) -> None:
    with pytest.raises(error, match=match):
        await call


async def test_a_write_is_there_after_a_restart(opener: Opener) -> None:
    store = opener.open()
    created = await create(store, ttl_s=600)
    assert created.expires_at is not None
    assert (created.expires_at - created.created_at).total_seconds() == pytest.approx(600)
    written, _ = await store.add_examples("ann", created.id, [example("1"), example("2", "笑")])
    assert (written.name, written.metadata, classes(written)) == ("n", {"k": "v"}, {"a": 1, "笑": 1})
    await store.close()
    store = opener.open()
    session, examples = await store.load_examples("ann", created.id)
    assert session == written == await store.get("ann", created.id)
    assert names(examples) == [("a", "1"), ("笑", "2")]
    await store.close()


async def test_the_version_of_a_session_counts_the_changes_of_every_replica(opener: Opener) -> None:
    here, there = opener.open(), opener.open()
    created = await create(here)
    for number in range(3):
        version = await here.version("ann", created.id)
        assert (version.id, version.revision) == (created.id, number)
        assert version.weights_sha256 == created.weights_sha256
        await there.add_examples("ann", created.id, [example(str(number))])
    await raises(SessionNotFound, here.version("bob", created.id))
    for replica in (here, there):
        await replica.close()


async def test_a_cursor_stays_valid_when_sessions_are_deleted_and_created(store: SessionStore) -> None:
    first, second, third, fourth = [await create(store) for _ in range(4)]
    page, cursor = await store.list_page("ann", limit=2, cursor=None)
    assert page == [first, second]
    for deleted in (second, third):
        await store.delete("ann", deleted.id)
    fifth = await create(store)
    assert await store.list_page("ann", limit=2, cursor=cursor) == ([fourth, fifth], None)


async def test_an_expired_session_is_gone_and_counts_no_longer(store: SessionStore) -> None:
    kept = [await create(store) for _ in range(QUOTAS.sessions - 1)]
    short = await create(store, "ann", example("1"), ttl_s=1.5)
    await store.add_examples("ann", short.id, [example("2")])
    await raises(SessionLimit, create(store))
    ids = [session.id for session in (*kept, short)]
    assert await store.revisions(ids) == {**dict.fromkeys(ids, 0), short.id: 2}
    assert await store.count() == QUOTAS.sessions
    await asyncio.sleep(1.6)
    for call in (
        store.get("ann", short.id),
        store.version("ann", short.id),
        store.load_examples("ann", short.id),
        store.add_examples("ann", short.id, [example("3")]),
        store.delete("ann", short.id),
    ):
        await raises(SessionNotFound, call)
    assert await store.revisions(ids) == {session.id: 0 for session in kept}
    assert await store.count() == len(kept)
    assert await store.list_page("ann", limit=9, cursor=None) == (kept, None)
    await create(store)
    await raises(SessionLimit, create(store))


async def test_simultaneous_writers_stay_within_the_quotas(opener: Opener) -> None:
    replicas = [opener.open() for _ in range(3)]
    created = await asyncio.gather(
        *(create(replicas[number % 3]) for number in range(12)), return_exceptions=True
    )
    assert [type(result) for result in created].count(SessionLimit) == 12 - QUOTAS.sessions
    assert await replicas[0].count() == QUOTAS.sessions
    for replica in replicas:
        await replica.close()


async def test_a_cancelled_write_is_complete_or_absent(store: SessionStore) -> None:
    session = await create(store)
    acknowledged = 0
    for attempt in range(4):
        added = [example(f"{attempt}-{index}") for index in range(2)]
        write = asyncio.ensure_future(store.add_examples("ann", session.id, added))
        await asyncio.sleep(attempt / 1000)
        write.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # a fast disk may complete the write first
            await write
            acknowledged += 1
    await asyncio.sleep(0.2)
    after, examples = await store.load_examples("ann", session.id)
    assert after.revision > 0, "a write that has begun is completed"
    assert after.revision >= acknowledged
    assert len(names(examples)) == 2 * after.revision


async def test_an_error_after_its_caller_was_cancelled_is_not_logged(
    store: SessionStore, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(4):
        read = asyncio.ensure_future(store.get("ann", "none"))
        await asyncio.sleep(0)
        read.cancel()
        await asyncio.sleep(0.1)
    assert read.cancelled()
    gc.collect()
    assert not caplog.records


async def test_an_owner_can_store_only_a_limited_number_of_bytes(opener: Opener) -> None:
    """Each example takes 48 bytes, the metadata of each session 10."""
    most = 3 * 48 + 3 * 10 + 20
    store = Opener(opener.url, dataclasses.replace(QUOTAS, bytes=most)).open()
    first = await create(store, "ann", example("1"), example("2", "b"))
    await create(store, "ann", example("1"), ttl_s=0.5)
    second = await create(store)
    await raises(ByteLimit, store.add_examples("ann", second.id, [example("1")]), f"at most {most} bytes")
    await raises(ByteLimit, create(store, "ann", example("1")))
    assert await store.get("ann", second.id) == second
    await create(store, "bob", example("1"), example("2"))
    await store.replace_class("ann", first.id, "a", [example("3")])
    await store.delete_class("ann", first.id, "b")
    await store.add_examples("ann", second.id, [example("1")])
    await raises(ByteLimit, store.add_examples("ann", second.id, [example("2")]))
    await asyncio.sleep(0.6)
    await store.add_examples("ann", second.id, [example("2")])
    await raises(ByteLimit, store.add_examples("ann", second.id, [example("3")]))
    await store.delete("ann", first.id)
    await store.add_examples("ann", second.id, [example("3")])
    await store.close()
