"""Session stores for tests, on SQLite and on PostgreSQL, and what is put into them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from app.sessions.session import NewSession, Quotas
from app.sessions.store import SessionStore, open_store
from model.support_set import Example

T = TypeVar("T")
QUOTAS = Quotas(sessions=5, bytes=10_000, classes=4, examples=8)
AMPLE = Quotas(sessions=10_000, bytes=2**30, classes=64, examples=512)
NUMBERS = 24
"""Of an example's features"""


def example(example_id: str, label: str = "a", numbers: int = NUMBERS) -> Example:
    """An example whose features can only be its own."""
    rng = np.random.default_rng([*example_id.encode()])
    features = rng.standard_normal(numbers).astype(np.float16)
    return Example(example_id=example_id, label=label, features=features)


def new_session(ttl_s: float | None = None, name: str | None = None) -> NewSession:
    return NewSession(name=name, ttl_s=ttl_s, weights_sha256="0" * 64, metadata={"k": "v"})


def names(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Label and id of each example, after a check that its features are its own."""
    for kept in examples:
        expected = example(kept.example_id, numbers=len(kept.features)).features
        assert np.array_equal(kept.features, expected)
    return [(kept.label, kept.example_id) for kept in examples]


@dataclasses.dataclass(frozen=True)
class Opener:
    """Opens the same store any number of times, as several replicas do."""

    url: str
    quotas: Quotas = QUOTAS

    def open(self) -> SessionStore:
        return open_store(self.url, quotas=self.quotas)

    def run(self, use: Callable[[SessionStore], Awaitable[T]]) -> T:
        """What `use` returns for a store that is opened for it and closed after it."""

        async def opened() -> T:
            store = self.open()
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(opened())


def sqlite_opener(folder: Path, quotas: Quotas = QUOTAS) -> Opener:
    return Opener(f"sqlite:///{folder}/sessions.sqlite3", quotas)
