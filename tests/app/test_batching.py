from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from app.batching import Batcher, QueueFull


def test_a_job_that_raises_fails_alone() -> None:
    started = threading.Event()

    def run(jobs: Sequence[int]) -> list[int]:
        started.wait(5)
        if 3 in jobs:
            raise ValueError("three")
        return [job * 10 for job in jobs]

    async def use() -> list[object]:
        batcher = Batcher(run, name="test", work_of=lambda job: 1, max_batch_work=10, max_queued_work=10)
        waiting = [asyncio.ensure_future(batcher.submit(job)) for job in range(6)]
        await asyncio.sleep(0.05)
        started.set()
        try:
            return list(await asyncio.gather(*waiting, return_exceptions=True))
        finally:
            batcher.close()

    results = asyncio.run(use())
    assert [result for result in results if not isinstance(result, ValueError)] == [0, 10, 20, 40, 50]
    assert isinstance(results[3], ValueError)


def test_a_job_beyond_the_queue_is_refused_unless_nothing_waits() -> None:
    go_on = threading.Event()

    def run(jobs: Sequence[int]) -> list[int]:
        go_on.wait(5)
        return list(jobs)

    async def use() -> None:
        batcher = Batcher(run, name="test", work_of=lambda job: job, max_batch_work=1, max_queued_work=5)
        first = asyncio.ensure_future(batcher.submit(100))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(batcher.submit(4))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.submit(2)
        go_on.set()
        assert [*await asyncio.gather(first, second)] == [100, 4]
        batcher.close()

    asyncio.run(use())


def test_lanes_take_turns() -> None:
    go_on, order = threading.Event(), list[str]()

    def run(jobs: Sequence[str]) -> list[str]:
        go_on.wait(5)
        order.extend(jobs)
        return list(jobs)

    async def use() -> None:
        batcher = Batcher(run, name="test", work_of=lambda job: 1, max_batch_work=1, max_queued_work=100)
        first = asyncio.ensure_future(batcher.submit("first"))
        await asyncio.sleep(0.05)
        many = asyncio.ensure_future(batcher.submit_all([f"a{index}" for index in range(5)], lane="a"))
        await asyncio.sleep(0)
        few = asyncio.ensure_future(batcher.submit_all(["b0", "b1"], lane="b"))
        await asyncio.sleep(0)
        go_on.set()
        assert await few == ["b0", "b1"]
        await asyncio.gather(first, many)
        batcher.close()

    asyncio.run(use())
    assert order == ["first", "a0", "b0", "a1", "b1", "a2", "a3", "a4"]


def test_what_is_cancelled_while_it_waits_is_never_run() -> None:
    go_on, ran = threading.Event(), list[int]()

    def run(jobs: Sequence[int]) -> list[int]:
        go_on.wait(5)
        ran.extend(jobs)
        return list(jobs)

    async def use() -> None:
        batcher = Batcher(run, name="test", work_of=lambda job: 1, max_batch_work=1, max_queued_work=100)
        waiting = [asyncio.ensure_future(batcher.submit(job)) for job in range(4)]
        await asyncio.sleep(0.05)
        for future in waiting[1:3]:
            future.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        batcher.close()

    asyncio.run(use())
    assert ran == [0, 3]


def test_several_threads_work_at_once() -> None:
    both = threading.Barrier(2, timeout=5)

    def run(jobs: Sequence[int]) -> list[int]:
        both.wait()
        return list(jobs)

    async def use() -> list[int]:
        batcher = Batcher(
            run, name="test", threads=2, work_of=lambda job: 1, max_batch_work=1, max_queued_work=9
        )
        found = await batcher.submit_all([1, 2])
        batcher.close()
        return found

    assert asyncio.run(use()) == [1, 2]
