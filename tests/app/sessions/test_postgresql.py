"""The store while PostgreSQL is stopped, hangs or refuses the password."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest

from app.sessions.errors import StoreUnavailable
from app.sessions.store import open_store
from tests.support.postgresql import PASSWORD, PostgresqlServer, needs_postgresql
from tests.support.stores import QUOTAS, Opener, create, example, names

pytestmark = [needs_postgresql, pytest.mark.anyio]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server that the tests of this file may stop."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_the_store_loses_nothing_when_postgresql_restarts(
    server: PostgresqlServer, how: signal.Signals
) -> None:
    store = Opener(server.new_database()).open()
    session = await create(store, "ann", example("1"))
    await asyncio.gather(*(store.get("ann", session.id) for _ in range(8)))
    server.stop(how)
    for call in (
        store.check(),
        store.get("ann", session.id),
        store.list_page("ann", limit=1, cursor=None),
        create(store),
        store.add_examples("ann", session.id, [example("2")]),
        store.delete("ann", session.id),
        store.sweep(),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    server.start()
    await asyncio.gather(*(store.check() for _ in range(8)))
    found, examples = await store.load_examples("ann", session.id)
    assert (found, names(examples)) == (session, [("a", "1")])
    after, _ = await store.add_examples("ann", session.id, [example("2")])
    assert after.revision == 2
    await store.close()


async def test_a_store_can_be_opened_before_its_postgresql_starts(server: PostgresqlServer) -> None:
    url = server.new_database()
    server.stop()
    store = Opener(url).open()
    with pytest.raises(StoreUnavailable):
        await store.check()
    server.start()
    await asyncio.gather(*(create(store, f"owner {number}") for number in range(8)))
    await store.close()


async def test_a_call_does_not_wait_long_for_a_postgresql_that_hangs(
    server: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Opener(server.new_database()).open()
    session = await create(store)
    server.pause()
    try:
        monkeypatch.setattr("app.sessions.database.ANSWER_TIMEOUT_S", 0.3)
        with pytest.raises(StoreUnavailable, match="no answer"):
            await store.add_examples("ann", session.id, [example("1")])
    finally:
        server.resume()
    monkeypatch.undo()
    await asyncio.sleep(0.5)
    found, examples = await store.load_examples("ann", session.id)
    assert len(examples) == found.revision, "the write is complete or absent"
    await store.close()


@pytest.mark.parametrize("address", ["postgresql://u:secret@host:port/db", "postgresql://u:secret@[::1/db"])
def test_a_malformed_address_is_reported_without_its_password(address: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"^CSRN_STORE is not of the form postgresql://USER:PASSWORD"):
        open_store(address, quotas=QUOTAS)


async def test_a_wrong_password_is_not_logged(
    server: PostgresqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = Opener(server.url().replace(PASSWORD, "wrong-secret")).open()
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()
    assert "session store: " in caplog.text
    assert "authentication failed" in caplog.text
    assert "wrong-secret" not in caplog.text
