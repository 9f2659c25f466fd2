from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    """Of an empty store on each database."""
    if request.param == "sqlite":
        return sqlite_opener(tmp_path)
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    return Opener(server.new_database())


@pytest.fixture
def owner() -> str:
    return f"owner {secrets.token_hex(4)}"
