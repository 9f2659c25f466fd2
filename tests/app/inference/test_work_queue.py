from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from app.inference.errors import DeviceFull, DeviceLost, QueueFull, WorkLost
from app.inference.fairness import Lane
from app.inference.work_queue import MAX_FAILURES, WorkQueue


class Gate:
    """Work that waits until the gate is open, and remembers its batches."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def run(self, jobs: Sequence[int]) -> Sequence[int]:
        self.opened.wait(5)
        self.batches.append([*jobs])
        return jobs


def use_queue(use: Callable[[WorkQueue], Awaitable[None]], **options: Any) -> None:
    async def body() -> None:
        queue = WorkQueue(name="test", **{"max_queued": 99, **options})
        try:
            await use(queue)
        finally:
            queue.close()

    asyncio.run(body())


async def start(submitted: Awaitable[list[int]], seconds: float = 0) -> asyncio.Future[list[int]]:
    """Queue the jobs; after some seconds a thread that was idle works on them."""
    future = asyncio.ensure_future(submitted)
    await asyncio.sleep(seconds)
    return future


def fails(jobs: Sequence[int]) -> Sequence[int]:
    raise ValueError(jobs)


def test_a_job_that_raises_fails_alone() -> None:
    gate = Gate()

    def run(jobs: Sequence[int]) -> Sequence[int]:
        return fails(jobs) if 3 in gate.run(jobs) else [job * 10 for job in jobs]

    async def use(queue: WorkQueue) -> None:
        waiting = [await start(queue.submit(run, [job]), 0.05) for job in range(6)]
        gate.opened.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(outcomes.pop(3), ValueError)
        assert outcomes == [[0], [10], [20], [40], [50]]
        assert gate.batches == [[0], [1, 2, 3, 4, 5], [1], [2], [3], [4], [5]]

    use_queue(use, max_batch=10)


def test_a_batch_holds_jobs_of_one_function_up_to_its_size() -> None:
    gate, other = Gate(), Gate()
    other.opened.set()

    async def use(queue: WorkQueue) -> None:
        waiting = [await start(queue.submit(gate.run, [0]), 0.05)]
        for owner, work, jobs in (("ann", gate, [1, 2, 9]), ("bob", other, [3]), ("eve", gate, [4])):
            lane = Lane(owner=owner)
            waiting.append(await start(queue.submit(work.run, jobs, size_of=lambda job: job, lane=lane)))
        gate.opened.set()
        await asyncio.gather(*waiting)
        assert gate.batches == [[0], [1, 4, 2], [9]]
        assert other.batches == [[3]]

    use_queue(use, max_batch=7)


def test_jobs_that_do_not_fit_are_refused_unless_nothing_of_their_owner_waits() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        def submit(owner: str, job: int) -> Awaitable[list[int]]:
            return queue.submit(gate.run, [job], size_of=lambda job: job, lane=Lane(owner=owner))

        first = await start(submit("ann", 100), 0.05)
        second = await start(submit("ann", 4))
        assert queue.queued == 4
        with pytest.raises(QueueFull):
            await submit("ann", 2)
        third = await start(submit("bob", 2))
        gate.opened.set()
        assert [await first, await second, await third] == [[100], [4], [2]]

    use_queue(use, max_queued=5)


def test_one_key_with_fifty_sessions_does_not_delay_the_request_of_another_key() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        waiting = [await start(queue.submit(gate.run, [-1]), 0.05)]
        for session in range(50):
            lane = Lane(owner="ann", session_id=str(session))
            waiting.append(await start(queue.submit(gate.run, [session], lane=lane)))
        waiting.append(await start(queue.submit(gate.run, [1000], lane=Lane(owner="bob"))))
        gate.opened.set()
        await asyncio.gather(*waiting)
        assert gate.batches[:4] == [[-1], [0], [1000], [1]]

    use_queue(use)


def test_a_job_that_is_cancelled_while_it_waits_never_runs() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        waiting = [await start(queue.submit(gate.run, [job]), 0.05) for job in range(4)]
        for future in waiting[1:3]:
            future.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert gate.batches == [[0], [3]]

    use_queue(use)


def test_several_threads_work_at_once() -> None:
    both = threading.Barrier(2, timeout=5)

    def run(jobs: Sequence[int]) -> Sequence[int]:
        both.wait()
        return jobs

    async def use(queue: WorkQueue) -> None:
        assert await queue.submit(run, [1, 2]) == [1, 2]

    use_queue(use, threads=2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("error", "times", "raised", "fault"),
    [
        (ValueError, MAX_FAILURES - 1, ValueError, None),
        (ValueError, MAX_FAILURES, ValueError, "5 batches in a row failed on the test thread"),
        (DeviceFull, MAX_FAILURES, DeviceFull, None),
        (DeviceLost, 1, DeviceLost, "the test thread met a permanent error"),
        (SystemExit, 1, WorkLost, "a test thread has died"),
    ],
)
def test_a_queue_is_broken_by_some_errors_and_by_repeated_errors(
    error: type[BaseException], times: int, raised: type[Exception], fault: str | None
) -> None:
    def run(jobs: Sequence[int]) -> Sequence[int]:
        raise error

    async def use(queue: WorkQueue) -> None:
        for _ in range(MAX_FAILURES - 1):
            with pytest.raises(ValueError, match="1"):
                await queue.submit(fails, [1])
        await queue.submit(lambda jobs: jobs, [2])
        for _ in range(times):
            assert queue.fault is None
            with pytest.raises(raised):
                await queue.submit(run, [3])
        assert queue.fault == fault

    use_queue(use)


def test_a_thread_that_is_stuck_is_a_fault_and_every_job_can_be_failed() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        running = await start(queue.submit(gate.run, [1]), 0.05)
        waiting = await start(queue.submit(gate.run, [2], lane=Lane(owner="bob")), 0.3)
        assert queue.fault == "a test thread has worked on one batch for more than 0.2 s"
        queue.fail_all()
        outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [WorkLost, WorkLost]
        with pytest.raises(QueueFull):
            await queue.submit(gate.run, [3])
        gate.opened.set()

    use_queue(use, stall_s=0.2)


def test_jobs_wait_for_room_in_turn_and_those_that_need_none_pass_them() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        def submit(owner: str, jobs: list[int]) -> Awaitable[list[int]]:
            return queue.submit(gate.run, jobs, room_of=lambda job: job, lane=Lane(owner=owner))

        small_gate = Gate()
        small_gate.opened.set()
        first = await start(submit("ann", [6]), 0.05)
        too_large = await start(submit("ann", [5, 4]), 0.05)
        fits_but_is_later = await start(submit("bob", [5, 3]), 0.05)
        assert gate.batches == []
        assert queue.queued == 4
        assert await queue.submit(small_gate.run, [1, 2], lane=Lane(owner="ann")) == [1, 2]
        gate.opened.set()
        assert await first == [6]
        assert [await too_large, await fits_but_is_later] == [[5, 4], [5, 3]]
        assert sorted(gate.batches[1:3]) == [[5], [5]]

    use_queue(use, threads=4, room=10)


def test_a_job_larger_than_all_room_runs_alone() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        first = await start(queue.submit(gate.run, [1], room_of=lambda job: job), 0.05)
        waiting = await start(queue.submit(gate.run, [99, 98], room_of=lambda job: job), 0.05)
        assert queue.queued == 2
        gate.opened.set()
        assert [await first, await waiting] == [[1], [99, 98]]

    use_queue(use, threads=4, room=10)


def test_jobs_that_wait_for_room_are_finished_when_the_queue_closes() -> None:
    gate = Gate()

    async def body() -> None:
        queue = WorkQueue(name="test", threads=3, max_queued=9, room=10)
        waiting = await start(queue.submit(gate.run, [7, 8, 9], room_of=lambda job: job), 0.05)
        closing = asyncio.get_running_loop().run_in_executor(None, queue.close)
        await asyncio.sleep(0.05)
        gate.opened.set()
        assert await waiting == [7, 8, 9]
        await closing

    asyncio.run(body())


def test_a_job_that_waits_for_room_keeps_its_turn_when_small_ones_of_its_owner_pass() -> None:
    gate, small_gate = Gate(), Gate()
    small_gate.opened.set()

    async def use(queue: WorkQueue) -> None:
        def submit(owner: str, room: int) -> Awaitable[list[int]]:
            return queue.submit(gate.run, [room], room_of=lambda job: job, lane=Lane(owner=owner))

        waiting = [await start(submit("bob", 60), 0.05)]
        waiting += [await start(submit("ann", 100)), await start(submit("bob", 61))]
        await queue.submit(small_gate.run, [1], lane=Lane(owner="ann"))
        gate.opened.set()
        await asyncio.gather(*waiting)
        assert gate.batches == [[60], [100], [61]]

    use_queue(use, threads=2, room=100)


def test_large_and_small_jobs_take_turns() -> None:
    gate = Gate()

    async def use(queue: WorkQueue) -> None:
        def submit(owner: str, jobs: list[int]) -> Awaitable[list[int]]:
            return queue.submit(
                gate.run, jobs, room_of=lambda job: job if job > 9 else 0, lane=Lane(owner=owner)
            )

        waiting = [await start(submit("eve", [0]), 0.05)]
        waiting += [await start(submit("ann", [10, 11, 12])), await start(submit("bob", [1, 2, 3]))]
        gate.opened.set()
        await asyncio.gather(*waiting)
        assert gate.batches == [[0], [10], [1], [11], [2], [12], [3]]

    use_queue(use, room=100)


def test_a_cancelled_job_keeps_no_other_one_from_taking_room() -> None:
    gate, open_gate = Gate(), Gate()
    open_gate.opened.set()

    async def use(queue: WorkQueue) -> None:
        first = await start(queue.submit(gate.run, [6], room_of=lambda job: job), 0.05)
        cancelled = await start(queue.submit(gate.run, [9], room_of=lambda job: job))
        cancelled.cancel()
        await asyncio.sleep(0)
        fits = queue.submit(open_gate.run, [4], room_of=lambda job: job, lane=Lane(owner="bob"))
        assert await asyncio.wait_for(fits, 2) == [4]
        assert gate.batches == []
        gate.opened.set()
        await first

    use_queue(use, threads=2, room=10)
