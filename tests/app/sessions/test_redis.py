from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.sessions.store import SessionLimit, SessionNotFound, SessionStore, StoreUnavailable
from tests.app.sessions.conftest import QUOTAS, example, names, new_session, redis_opener
from tests.redis_server import RedisServer, needs_redis_server

pytestmark = needs_redis_server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def test_the_store_is_back_when_redis_is_and_has_lost_nothing(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        await asyncio.gather(*(store.get("ann", session.id) for _ in range(8)))
        for how in (signal.SIGKILL, signal.SIGTERM):
            own_server.stop(how)
            for call in (
                store.check(),
                store.get("ann", session.id),
                store.list_page("ann", limit=1, cursor=None),
                store.create("ann", new_session()),
                store.add_examples("ann", session.id, [example("2")]),
                store.delete("ann", session.id),
            ):
                with pytest.raises(StoreUnavailable):
                    await call
            own_server.start()
            await asyncio.gather(*(store.check() for _ in range(8)))
            found, examples = await store.load_examples("ann", session.id)
            assert (found, names(examples)) == (session, [("a", "1")])
        assert (await store.add_examples("ann", session.id, [example("2")])).revision == 2

    redis_opener(own_server.url).run(use)


def test_a_store_can_be_opened_before_its_redis_is_there(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        with pytest.raises(StoreUnavailable):
            await store.check()
        own_server.start()
        await store.check()

    own_server.stop()
    redis_opener(own_server.url).run(use)


def test_a_redis_that_hangs_is_given_up(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.sessions.redis.ANSWER_TIMEOUT_S", 0.3)

    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session())
        with redis.Redis.from_url(own_server.url) as client:
            client.execute_command("CLIENT", "PAUSE", "1500")
        with pytest.raises(StoreUnavailable):
            await store.add_examples("ann", session.id, [example("1")])
        await asyncio.sleep(1.5)
        found, examples = await store.load_examples("ann", session.id)
        assert len(examples) == found.revision  # made or not, the client was told neither

    redis_opener(own_server.url).run(use)


def test_redis_itself_forgets_what_has_expired(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        short = await store.create("ann", new_session(ttl_s=1.5), [example("1")])
        await store.add_examples("ann", short.id, [example("2")])
        await store.delete_example("ann", short.id, "a", "1")
        kept = await store.create("ann", new_session(), [example("1")])
        await asyncio.sleep(1.6)
        with pytest.raises(SessionNotFound):
            await store.get("ann", short.id)
        with redis.Redis.from_url(own_server.url, decode_responses=True) as client:
            assert [key for key in client.keys("csrn:*") if short.id in key] == []
            await store.list_page("ann", limit=1, cursor=None)
            assert client.zrange("csrn:owner:ann", 0, -1) == [kept.id]
            assert client.zrange("csrn:expiries:ann", 0, -1) == []
            await store.sweep()
            assert client.zrange("csrn:sessions", 0, -1) == [kept.id]
        assert await store.revisions([kept.id]) == {kept.id: 1}

    redis_opener(own_server.url).run(use)


def test_nothing_is_left_of_a_deleted_session(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        await store.delete("ann", session.id)
        with redis.Redis.from_url(own_server.url, decode_responses=True) as client:
            assert client.keys("csrn:*") == ["csrn:last-session"]

    redis_opener(own_server.url).run(use)


def test_a_redis_that_would_forget_is_warned_of(
    own_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
    redis_opener(own_server.url).run(lambda store: store.check())
    assert "appendonly is off" in caplog.text
    assert "not noeviction" in caplog.text


def test_many_creates_at_the_quota_do_not_keep_others_waiting(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        others = await store.create("bob", new_session())
        for _ in range(QUOTAS.sessions):
            await store.create("ann", new_session())
        refused = [asyncio.ensure_future(store.create("ann", new_session())) for _ in range(100)]
        await asyncio.wait_for(store.get("bob", others.id), 5)
        results = await asyncio.gather(*refused, return_exceptions=True)
        assert {type(result) for result in results} == {SessionLimit}

    redis_opener(own_server.url).run(use)


def test_features_that_redis_has_evicted_are_an_unavailable_store(own_server: RedisServer) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        with redis.Redis.from_url(own_server.url) as client:
            client.delete(f"csrn:features:{session.id}")
        with pytest.raises(StoreUnavailable):
            await store.load_examples("ann", session.id)

    redis_opener(own_server.url).run(use)
