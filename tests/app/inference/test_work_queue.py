from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from app.inference.errors import QueueFull, WorkLost
from app.inference.work_queue import MAX_FAILURES, WorkQueue


def test_a_job_that_raises_fails_alone() -> None:
    started = threading.Event()

    def run(jobs: Sequence[int]) -> list[int]:
        started.wait(5)
        if 3 in jobs:
            raise ValueError("three")
        return [job * 10 for job in jobs]

    async def use() -> list[object]:
        queue = WorkQueue(run, name="test", work_of=lambda job: 1, max_batch_work=10, max_queued_work=10)
        waiting = [asyncio.ensure_future(queue.submit(job)) for job in range(6)]
        await asyncio.sleep(0.05)
        started.set()
        try:
            return list(await asyncio.gather(*waiting, return_exceptions=True))
        finally:
            queue.close()

    results = asyncio.run(use())
    assert [result for result in results if not isinstance(result, ValueError)] == [0, 10, 20, 40, 50]
    assert isinstance(results[3], ValueError)


def test_a_job_beyond_the_queue_is_refused_unless_nothing_waits() -> None:
    go_on = threading.Event()

    def run(jobs: Sequence[int]) -> list[int]:
        go_on.wait(5)
        return list(jobs)

    async def use() -> None:
        queue = WorkQueue(run, name="test", work_of=lambda job: job, max_batch_work=1, max_queued_work=5)
        first = asyncio.ensure_future(queue.submit(100))
        await asyncio.sleep(0.05)
        second = asyncio.ensure_future(queue.submit(4))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await queue.submit(2)
        go_on.set()
        assert [*await asyncio.gather(first, second)] == [100, 4]
        queue.close()

    asyncio.run(use())


def test_lanes_take_turns() -> None:
    go_on, order = threading.Event(), list[str]()

    def run(jobs: Sequence[str]) -> list[str]:
        go_on.wait(5)
        order.extend(jobs)
        return list(jobs)

    async def use() -> None:
        queue = WorkQueue(run, name="test", work_of=lambda job: 1, max_batch_work=1, max_queued_work=100)
        first = asyncio.ensure_future(queue.submit("first"))
        await asyncio.sleep(0.05)
        many = asyncio.ensure_future(queue.submit_all([f"a{index}" for index in range(5)], lane="a"))
        await asyncio.sleep(0)
        few = asyncio.ensure_future(queue.submit_all(["b0", "b1"], lane="b"))
        await asyncio.sleep(0)
        go_on.set()
        assert await few == ["b0", "b1"]
        await asyncio.gather(first, many)
        queue.close()

    asyncio.run(use())
    assert order == ["first", "a0", "b0", "a1", "b1", "a2", "a3", "a4"]


def test_what_is_cancelled_while_it_waits_is_never_run() -> None:
    go_on, ran = threading.Event(), list[int]()

    def run(jobs: Sequence[int]) -> list[int]:
        go_on.wait(5)
        ran.extend(jobs)
        return list(jobs)

    async def use() -> None:
        queue = WorkQueue(run, name="test", work_of=lambda job: 1, max_batch_work=1, max_queued_work=100)
        waiting = [asyncio.ensure_future(queue.submit(job)) for job in range(4)]
        await asyncio.sleep(0.05)
        for future in waiting[1:3]:
            future.cancel()
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        queue.close()

    asyncio.run(use())
    assert ran == [0, 3]


def test_several_threads_work_at_once() -> None:
    both = threading.Barrier(2, timeout=5)

    def run(jobs: Sequence[int]) -> list[int]:
        both.wait()
        return list(jobs)

    async def use() -> list[int]:
        queue = WorkQueue(
            run, name="test", threads=2, work_of=lambda job: 1, max_batch_work=1, max_queued_work=9
        )
        found = await queue.submit_all([1, 2])
        queue.close()
        return found

    assert asyncio.run(use()) == [1, 2]


def fails(jobs: Sequence[int]) -> list[int]:
    raise ValueError(jobs)


def use_queue(
    run: Callable[[Sequence[int]], Sequence[int]],
    use: Callable[[WorkQueue[int, int]], Awaitable[None]],
    **options: Any,
) -> None:
    async def body() -> None:
        queue = WorkQueue(
            run, name="test", work_of=lambda job: 1, max_batch_work=4, max_queued_work=9, **options
        )
        try:
            await use(queue)
        finally:
            queue.close()

    asyncio.run(body())


def test_five_failures_in_a_row_are_a_fault_and_fewer_are_not() -> None:
    fail = True

    def run(jobs: Sequence[int]) -> Sequence[int]:
        return fails(jobs) if fail else jobs

    async def use(queue: WorkQueue[int, int]) -> None:
        nonlocal fail
        for count in (MAX_FAILURES - 1, MAX_FAILURES):
            for _ in range(count):
                assert queue.fault is None
                with pytest.raises(ValueError, match="1"):
                    await queue.submit(1)
            if count < MAX_FAILURES:
                fail = False
                assert await queue.submit(2) == 2
                fail = True
        assert queue.fault == "5 batches in a row failed on the test thread"

    use_queue(run, use)


def test_refused_work_is_no_fault() -> None:
    def run(jobs: Sequence[int]) -> Sequence[int]:
        raise QueueFull

    async def use(queue: WorkQueue[int, int]) -> None:
        for _ in range(MAX_FAILURES + 1):
            with pytest.raises(QueueFull):
                await queue.submit(1)
        assert queue.fault is None

    use_queue(run, use)


def test_one_permanent_error_is_a_fault() -> None:
    async def use(queue: WorkQueue[int, int]) -> None:
        with pytest.raises(ValueError, match="1"):
            await queue.submit(1)
        assert queue.fault == "the test thread met an error that does not go away"

    use_queue(fails, use, is_permanent=lambda error: isinstance(error, ValueError))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_fails_its_job_and_is_a_fault() -> None:
    def run(jobs: Sequence[int]) -> Sequence[int]:
        raise SystemExit

    async def use(queue: WorkQueue[int, int]) -> None:
        with pytest.raises(WorkLost):
            await queue.submit(1)
        await asyncio.sleep(0.1)
        assert queue.fault == "a test thread has died"

    use_queue(run, use)


def test_a_thread_that_is_stuck_is_a_fault_and_its_job_can_be_abandoned() -> None:
    go_on = threading.Event()

    def run(jobs: Sequence[int]) -> Sequence[int]:
        go_on.wait(5)
        return jobs

    async def use(queue: WorkQueue[int, int]) -> None:
        begun = asyncio.ensure_future(queue.submit(1, lane="a"))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(queue.submit(2, lane="b"))
        await asyncio.sleep(0.3)
        assert queue.fault == "a test thread has worked on one batch for more than 0.2 s"
        queue.abandon()
        outcomes = await asyncio.gather(begun, waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkLost, WorkLost]
        with pytest.raises(QueueFull):
            await queue.submit(3)
        go_on.set()

    use_queue(run, use, stall_s=0.2)
