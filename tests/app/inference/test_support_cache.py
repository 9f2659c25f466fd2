from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from app.inference.errors import NoClasses
from app.inference.fairness import Lane
from app.inference.kept_support_sets import KeptSupportSets
from app.inference.support_cache import SupportCache
from app.sessions.store import SessionVersion
from csrn_client.schemas import ClassCount, Session
from model.networks.relation import Half
from model.support_set import Example, SupportSet
from tests.support.stores import example, session

pytestmark = pytest.mark.anyio
SIZE_BYTES = 16
"""Of one support set"""


def version(session_id: str, revision: int) -> SessionVersion:
    return SessionVersion(id=session_id, revision=revision, weights_sha256="")


class Store:
    """A session store and an engine, where a support set has as many examples as its session has enabled."""

    def __init__(self) -> None:
        self.current = dict.fromkeys("abc", 1)
        """The revision of each session"""
        self.examples = 1
        self.classes: list[ClassCount] = []
        self.loaded: list[str] = []

    async def load_examples(
        self, owner: str, session_id: str, *, enabled_only: bool
    ) -> tuple[Session, Sequence[Example]]:
        assert enabled_only
        self.loaded.append(session_id)
        await asyncio.sleep(0)
        if session_id not in self.current:
            raise ValueError
        found = session(session_id, self.current[session_id])
        found.classes = self.classes
        return found, [example("1")] * self.examples

    async def revisions(self, session_ids: Sequence[str]) -> dict[str, int]:
        return {name: self.current[name] for name in session_ids if name in self.current}

    async def build_support_set(self, examples: Sequence[Example], *, lane: Lane) -> SupportSet:
        halves = Half(convolved=torch.zeros(0), direction=torch.zeros(2))
        return SupportSet(
            labels=("a",),
            example_ids=("1",),
            shots=np.ones(1, dtype=np.int64),
            halves=halves,
            class_directions=torch.zeros(SIZE_BYTES // 4 * len(examples) - 2),
            unknown_below=0.5,
        )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def cache(store: Any) -> SupportCache:
    """Has room for two support sets."""
    return SupportCache(store, store, KeptSupportSets(max_bytes=2 * SIZE_BYTES + SIZE_BYTES // 2))


async def test_the_support_sets_used_last_are_kept_within_the_budget(
    store: Store, cache: SupportCache
) -> None:
    for name in "abacab":
        await cache.get("ann", version(name, 1))
    assert (store.loaded, cache.misses) == (["a", "b", "c", "b"], 4)
    assert (len(cache), cache.size_bytes) == (2, 2 * SIZE_BYTES)
    store.examples = 3
    assert (await cache.get("ann", version("c", 1))).size_bytes == 3 * SIZE_BYTES
    assert (len(cache), cache.size_bytes) == (2, 2 * SIZE_BYTES), "too large to keep"


async def test_only_the_newest_revision_of_a_session_is_kept(store: Store, cache: SupportCache) -> None:
    old = await cache.get("ann", version("a", 1))
    store.current["a"] = 3
    new = await cache.get("ann", version("a", 2))
    assert new is not old
    assert cache.size_bytes == SIZE_BYTES
    for revision in (1, 2, 3):
        assert await cache.get("ann", version("a", revision)) is new
    assert len(store.loaded) == 2


async def test_simultaneous_calls_share_one_load_even_if_one_is_cancelled(
    store: Store, cache: SupportCache
) -> None:
    waiting = [asyncio.ensure_future(cache.get("ann", version("a", 1))) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert len(set(map(id, await asyncio.gather(*waiting[1:])))) == 1
    assert store.loaded == ["a"]


async def test_a_failure_reaches_all_waiting_calls_and_is_not_kept(store: Store, cache: SupportCache) -> None:
    calls = (cache.get("ann", version("new", 1)) for _ in range(3))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    store.current["new"], store.examples = 1, 0
    with pytest.raises(NoClasses, match="no classes"):
        await cache.get("ann", version("new", 1))
    store.classes = [ClassCount(label="a", examples=1, enabled=False)]
    with pytest.raises(NoClasses, match="disabled"):
        await cache.get("ann", version("new", 1))
    store.examples = 1
    await cache.get("ann", version("new", 1))
    assert store.loaded == ["new"] * 4


async def test_a_forgotten_session_frees_its_memory(cache: SupportCache) -> None:
    for name in "ab":
        await cache.get("ann", version(name, 1))
    cache.forget("a")
    cache.forget("never seen")
    assert (len(cache), cache.size_bytes) == (1, SIZE_BYTES)


async def test_a_session_that_is_forgotten_while_it_loads_is_not_kept(cache: SupportCache) -> None:
    waiting = asyncio.ensure_future(cache.get("ann", version("a", 1)))
    await asyncio.sleep(0)
    cache.forget("a")
    assert (await waiting).labels == ("a",)
    assert len(cache) == 0


async def test_changed_and_deleted_sessions_are_forgotten(store: Store, cache: SupportCache) -> None:
    for name in "ab":
        await cache.get("ann", version(name, 1))
    await cache.forget_changed()
    assert len(cache) == 2
    store.current["a"] = 2
    await cache.forget_changed()
    assert (len(cache), cache.size_bytes) == (1, SIZE_BYTES)
    del store.current["b"]
    await cache.forget_changed()
    assert (len(cache), cache.size_bytes) == (0, 0)
