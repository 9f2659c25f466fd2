from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from app.sessions.redis import RedisStore
from app.sessions.sqlite import SqliteStore
from app.sessions.store import NewSession, Quotas, SessionStore
from model.support_set import Example
from tests.redis_server import RedisServer, needs_redis_server

T = TypeVar("T")
QUOTAS = Quotas(sessions=5, classes=4, examples=8)
SHAPE = (3, 2, 2, 2)


def example(example_id: str, label: str = "a") -> Example:
    """Features that tell which example it is."""
    rng = np.random.default_rng([*example_id.encode()])
    features = rng.standard_normal(SHAPE).astype(np.float16)
    return Example(example_id=example_id, label=label, features=features)


def new_session(ttl_s: float | None = None, name: str | None = None) -> NewSession:
    return NewSession(name=name, ttl_s=ttl_s, weights_sha256="0" * 64, metadata={"k": "v"})


def names(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Label and id of each, once it is sure that the features are its own."""
    for kept in examples:
        assert np.array_equal(kept.features, example(kept.example_id).features)
    return [(kept.label, kept.example_id) for kept in examples]


@dataclasses.dataclass(frozen=True)
class Opener:
    """Opens one and the same store as often as wanted, as several replicas do."""

    open: Callable[[], SessionStore]

    def run(self, use: Callable[[SessionStore], Awaitable[T]]) -> T:
        """What `use` does with a store that is opened for it."""

        async def opened() -> T:
            store = self.open()
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(opened())


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


def sqlite_opener(path: Path) -> Opener:
    return Opener(lambda: SqliteStore(path, quotas=QUOTAS))


def redis_opener(url: str) -> Opener:
    return Opener(lambda: RedisStore(url, quotas=QUOTAS))


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis_server)])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "sqlite":
        return sqlite_opener(tmp_path / "sessions.sqlite3")
    server: RedisServer = request.getfixturevalue("redis_server")
    return redis_opener(server.url)


@pytest.fixture
def owner() -> str:
    """One that no other test has: they share a Redis."""
    return f"owner {secrets.token_hex(4)}"
