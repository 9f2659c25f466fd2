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
        batcher = Batcher(run, work_of=lambda job: 1, max_batch_work=10, max_queued_work=10)
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
        batcher = Batcher(run, work_of=lambda job: job, max_batch_work=1, max_queued_work=5)
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
