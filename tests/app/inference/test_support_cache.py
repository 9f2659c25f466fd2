from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
import torch

from app.inference.support_cache import SupportCache, SupportKey
from model.networks.relation import Half
from model.support_set import SupportSet


def support_set(floats: int = 4) -> SupportSet:
    """One that takes 4 bytes for each float."""
    return SupportSet(
        labels=("a",),
        example_ids=("1",),
        class_of_example=np.zeros(1, dtype=np.int64),
        example_halves=Half(convolved=torch.zeros(floats - 4), direction=torch.zeros(1)),
        prototype_halves=Half(convolved=torch.zeros(1), direction=torch.zeros(1)),
        class_means={"cosine": torch.zeros(1)},
        unknown_below=0.5,
    )


def made(
    key: SupportKey, support: SupportSet, calls: list[SupportKey]
) -> Callable[[], Awaitable[tuple[SupportKey, SupportSet]]]:
    async def make() -> tuple[SupportKey, SupportSet]:
        calls.append(key)
        await asyncio.sleep(0)
        return key, support

    return make


def test_the_sets_used_last_are_kept_within_the_budget() -> None:
    async def use() -> None:
        cache, calls = SupportCache(max_bytes=40), list[SupportKey]()
        a, b, c = (support_set() for _ in range(3))
        for name, support in (("a", a), ("b", b), ("a", a), ("c", c), ("a", a), ("b", b)):
            assert await cache.get((name, 1), made((name, 1), support, calls)) is support
        assert [name for name, _ in calls] == ["a", "b", "c", "b"]
        assert cache.size_bytes == 32
        huge = support_set(11)
        assert await cache.get(("d", 1), made(("d", 1), huge, calls)) is huge
        assert cache.kept.keys() == {"a", "b"}

    asyncio.run(use())


def test_of_a_session_only_the_newest_revision_is_kept_and_given_by_its_key_alone() -> None:
    async def use() -> None:
        cache, calls = SupportCache(max_bytes=400), list[SupportKey]()
        old, new = support_set(), support_set()
        assert await cache.get(("a", 1), made(("a", 1), old, calls)) is old
        assert await cache.get(("a", 2), made(("a", 2), new, calls)) is new
        assert cache.size_bytes == 16
        assert await cache.get(("a", 1), made(("a", 1), old, calls)) is old, "late, and not to be kept"
        assert await cache.get(("a", 2), made(("a", 2), old, calls)) is new

    asyncio.run(use())


def test_many_who_ask_at_once_have_it_made_once_even_if_one_gives_up() -> None:
    async def use() -> None:
        cache, calls, support = SupportCache(max_bytes=400), list[SupportKey](), support_set()
        waiting = [
            asyncio.ensure_future(cache.get(("a", 1), made(("a", 1), support, calls))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await asyncio.gather(*waiting[1:]) == [support] * 4
        assert len(calls) == 1

    asyncio.run(use())


def test_a_failure_reaches_all_who_wait_and_the_next_try_starts_anew() -> None:
    async def use() -> None:
        cache, calls, support = SupportCache(max_bytes=400), list[SupportKey](), support_set()

        async def fail() -> tuple[SupportKey, SupportSet]:
            await asyncio.sleep(0)
            raise ValueError

        results = await asyncio.gather(*(cache.get(("a", 1), fail) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [ValueError] * 3
        assert await cache.get(("a", 1), made(("a", 1), support, calls)) is support

    asyncio.run(use())


def test_forgotten_sessions_free_their_memory() -> None:
    async def use() -> None:
        cache, calls = SupportCache(max_bytes=400), list[SupportKey]()
        for name in "ab":
            await cache.get((name, 1), made((name, 1), support_set(), calls))
        cache.forget(["a", "never seen"])
        assert (cache.kept, cache.size_bytes) == ({"b": 1}, 16)

    asyncio.run(use())


def test_what_is_forgotten_while_it_is_made_is_not_kept() -> None:
    async def use() -> None:
        cache, calls, support = SupportCache(max_bytes=400), list[SupportKey](), support_set()
        waiting = asyncio.ensure_future(cache.get(("a", 1), made(("a", 1), support, calls)))
        await asyncio.sleep(0)
        cache.forget(["a"])
        assert await waiting is support
        assert cache.kept == {}

    asyncio.run(use())


@pytest.mark.parametrize("revisions", [(1, 2), (2, 1)])
def test_a_load_that_finds_a_newer_revision_is_kept_as_that(revisions: tuple[int, int]) -> None:
    async def use() -> None:
        asked, found = revisions
        cache, calls, support = SupportCache(max_bytes=400), list[SupportKey](), support_set()
        await cache.get(("a", asked), made(("a", found), support, calls))
        await cache.get(("a", found), made(("a", found), support, calls))
        assert len(calls) == 1

    asyncio.run(use())
