"""Session stores for tests, on SQLite and PostgreSQL, and the examples that tests put into them."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from app.sessions.quotas import Quotas
from app.sessions.store import SessionStore, open_store
from csrn_client.schemas import NewSession, Session
from model.support_set import Example

T = TypeVar("T")
QUOTAS = Quotas(sessions=5, bytes=10_000, classes=4, examples=8)
AMPLE = Quotas(sessions=10_000, bytes=2**30, classes=64, examples=512)
NUMBERS = 24
"""Length of an example's features"""


def example(example_id: str, label: str = "a", numbers: int = NUMBERS, image: str | None = None) -> Example:
    """An example of an image, whose features depend on its id, so that a test notices a mix-up."""
    rng = np.random.default_rng([*example_id.encode()])
    features = rng.standard_normal(numbers).astype(np.float16)
    digest = None if image is None else hashlib.sha256(image.encode()).digest()
    return Example(example_id=example_id, label=label, features=features, image_sha256=digest)


def session(session_id: str, revision: int = 1) -> Session:
    """A session as a store returns it, which was created on the first day of 2026."""
    created_at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return Session(
        id=session_id,
        name="n",
        created_at=created_at,
        expires_at=None,
        revision=revision,
        weights_sha256="0" * 64,
        metadata={"k": "v", "n": 1},
        classes=[],
    )


async def create(
    store: SessionStore, owner: str = "ann", *examples: Example, ttl_s: float | None = None
) -> Session:
    new = NewSession(name="n", ttl_s=ttl_s, metadata={"k": "v"})
    return await store.create(owner, new, examples, weights_sha256="0" * 64)


def classes(session: Session) -> dict[str, int]:
    """Label to number of examples, in the order of the session."""
    return {known.label: known.examples for known in session.classes}


def disabled(session: Session) -> set[str]:
    """The labels of the classes that are not scored."""
    return {known.label for known in session.classes if not known.enabled}


def names(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Label and id of each example. Asserts that its features belong to its id."""
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
        """Open the store, run `use` with it, close it, and return what `use` returned."""

        async def opened() -> T:
            store = self.open()
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(opened())


def sqlite_opener(folder: Path, quotas: Quotas = QUOTAS) -> Opener:
    return Opener(f"sqlite:///{folder}/sessions.sqlite3", quotas)
