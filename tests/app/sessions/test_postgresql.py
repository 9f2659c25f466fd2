"""What holds while PostgreSQL is away."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from app.sessions.errors import StoreUnavailable
from app.sessions.store import SessionStore, open_store
from tests.support.postgresql import PostgresqlServer, needs_postgresql
from tests.support.stores import QUOTAS, Opener, example, names, new_session

pytestmark = needs_postgresql


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresqlServer]:
    """A server that the tests of this file may stop."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_store_comes_back_with_postgresql_and_has_lost_nothing(
    own_server: PostgresqlServer, how: signal.Signals
) -> None:
    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session(), [example("1")])
        await asyncio.gather(*(store.get("ann", session.id) for _ in range(8)))
        own_server.stop(how)
        for call in (
            store.check(),
            store.get("ann", session.id),
            store.list_page("ann", limit=1, cursor=None),
            store.create("ann", new_session()),
            store.add_examples("ann", session.id, [example("2")]),
            store.delete("ann", session.id),
            store.sweep(),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        own_server.start()
        await asyncio.gather(*(store.check() for _ in range(8)))
        found, examples = await store.load_examples("ann", session.id)
        assert (found, names(examples)) == (session, [("a", "1")])
        assert (await store.add_examples("ann", session.id, [example("2")])).revision == 2

    Opener(own_server.new_database()).run(use)


def test_a_store_can_be_opened_before_its_postgresql_is_there(own_server: PostgresqlServer) -> None:
    async def use(store: SessionStore) -> None:
        with pytest.raises(StoreUnavailable):
            await store.check()
        own_server.start()
        await asyncio.gather(*(store.create(f"owner {number}", new_session()) for number in range(8)))

    url = own_server.new_database()
    own_server.stop()
    Opener(url).run(use)


def test_a_postgresql_that_hangs_is_not_waited_for(
    own_server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.database.ANSWER_TIMEOUT_S", 0.3)

    async def use(store: SessionStore) -> None:
        session = await store.create("ann", new_session())
        own_server.pause()
        try:
            with pytest.raises(StoreUnavailable, match="no answer"):
                await store.add_examples("ann", session.id, [example("1")])
        finally:
            own_server.resume()
        await asyncio.sleep(0.5)
        found, examples = await store.load_examples("ann", session.id)
        assert len(examples) == found.revision, "the write may have been made, but never in part"

    Opener(own_server.new_database()).run(use)


@pytest.mark.parametrize("address", ["postgresql://host:port/db", "postgresql://[::1/db"])
def test_a_malformed_address_is_reported_without_its_password(address: str) -> None:
    with pytest.raises(StoreUnavailable, match="CSRN_STORE is not of the form"):
        open_store(address, quotas=QUOTAS)


def test_a_wrong_password_is_logged_without_it(
    own_server: PostgresqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    address = own_server.url().replace(own_server.url().split(":")[2].split("@")[0], "wrong-secret")

    async def use(store: SessionStore) -> None:
        with pytest.raises(StoreUnavailable):
            await store.check()

    Opener(address).run(use)
    assert "session store: " in caplog.text
    assert "authentication failed" in caplog.text
    assert "wrong-secret" not in caplog.text
