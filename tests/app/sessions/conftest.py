from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.sessions.store import SessionStore
from tests.support.postgresql import PostgresqlServer, needs_postgresql
from tests.support.stores import Opener, sqlite_opener


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A server that no test stops."""
    server = PostgresqlServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens an empty store, on each database in turn."""
    if request.param == "sqlite":
        return sqlite_opener(tmp_path)
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return Opener(server.new_database())


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[SessionStore]:
    store = opener.open()
    yield store
    await store.close()


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SessionStore]:
    """A store whose files are in `tmp_path`."""
    store = sqlite_opener(tmp_path).open()
    yield store
    await store.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
