"""Threads that work through queued jobs in batches; lanes take turns."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from app.inference.errors import QueueFull, WorkLost
from app.inference.observer import Observer

logger = logging.getLogger("csrn")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Lane = Hashable
"""Whose job it is. Lanes take turns, so that one client's long queue does not keep the others waiting."""

CLOSE_S = 5
MAX_FAILURES = 5
"""After so many batches in a row that raise, the fault is no longer the jobs'"""


class WorkQueue(Generic[Job, Outcome]):
    """Runs jobs in batches on threads of its own.

    There is no timer: an idle thread takes a job at once, and a busy one finds a batch when it is done.
    Every job ends with its outcome, with the exception that it raised, or cancelled. A job that is cancelled
    while it waits is never run. A queue does not repair itself: `fault` says what is wrong, and the process
    ends then (app.inference.watchdog).
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Job]], Sequence[Outcome]],
        *,
        name: str,
        threads: int = 1,
        work_of: Callable[[Job], int],
        max_batch_work: int,
        max_queued_work: int,
        stall_s: float = 60,
        is_permanent: Callable[[Exception], bool] = lambda error: False,
        observer: Observer = Observer(),
    ) -> None:
        """Start the threads.

        Args:
            run_batch: one outcome for each job, in order.
            name: of the threads, and of the queue for `observer`.
            work_of: how much of either limit a job uses.
            stall_s: a thread that works on one batch for longer is stuck.
            is_permanent: whether no later batch can succeed after this exception.
        """
        self._run_batch, self._work_of, self._is_permanent = run_batch, work_of, is_permanent
        self._max_batch_work, self._max_queued_work = max_batch_work, max_queued_work
        self._name, self._stall_s, self._observer = name, stall_s, observer
        self._lanes: collections.OrderedDict[Lane, collections.deque[_Queued[Job, Outcome]]] = (
            collections.OrderedDict()
        )
        self._queued_work = 0
        self._changed = threading.Condition()
        self._closing = False
        self._failures, self._permanent_fault = 0, False
        self._busy: dict[threading.Thread, tuple[float, Sequence[_Queued[Job, Outcome]]]] = {}
        """Since when each thread has worked on which batch, by time.monotonic()"""
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def fault(self) -> str | None:
        """Why it can work no more, if it cannot."""
        if self._permanent_fault:
            return f"the {self._name} thread met an error that does not go away"
        if self._failures >= MAX_FAILURES:
            return f"{MAX_FAILURES} batches in a row failed on the {self._name} thread"
        if not (self._closing or all(thread.is_alive() for thread in self._threads)):
            return f"a {self._name} thread has died"
        longest_s = max((time.monotonic() - since for since, _ in [*self._busy.values()]), default=0)
        if longest_s > self._stall_s:
            return f"a {self._name} thread has worked on one batch for more than {self._stall_s:g} s"
        return None

    @property
    def queued_work(self) -> int:
        """How much work waits, measured by work_of."""
        return self._queued_work

    def require_room(self, work: int) -> None:
        """Raises: QueueFull if that much more does not fit; an empty queue takes any one request."""
        if self._closing or (self._lanes and self._queued_work + work > self._max_queued_work):
            self._observer.queue_was_full(self._name)
            raise QueueFull

    async def submit(self, job: Job, *, lane: Lane = None) -> Outcome:
        """The job's outcome. Raises: QueueFull; WorkLost; what the job raised."""
        (future,) = self._put([job], lane)
        return await asyncio.wrap_future(future)

    async def submit_all(self, jobs: Sequence[Job], *, lane: Lane = None) -> list[Outcome]:
        """The outcomes of jobs, all of which are queued or none. Raises: as submit."""
        return await asyncio.gather(*map(asyncio.wrap_future, self._put(jobs, lane)))

    def close(self) -> None:
        """Finish what is queued, then end the threads. A thread that takes longer than CLOSE_S is left."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def abandon(self) -> None:
        """Fail every job, waiting or begun, with WorkLost; the process is about to end."""
        with self._changed:
            self._closing = True
            waiting = [queued for lane in self._lanes.values() for queued in lane]
            self._lanes.clear()
            self._changed.notify_all()
        begun = [queued for _, batch in [*self._busy.values()] for queued in batch]
        for _, future in [*waiting, *begun]:
            _settle(future, WorkLost())

    def _put(self, jobs: Sequence[Job], lane: Lane) -> list[concurrent.futures.Future[Outcome]]:
        futures: list[concurrent.futures.Future[Outcome]] = [concurrent.futures.Future() for _ in jobs]
        work = sum(map(self._work_of, jobs))
        with self._changed:
            self.require_room(work)
            if jobs:
                self._lanes.setdefault(lane, collections.deque()).extend(zip(jobs, futures, strict=True))
                self._queued_work += work
            self._changed.notify(len(jobs))
        return futures

    def _work(self) -> None:
        thread = threading.current_thread()
        batch: Sequence[_Queued[Job, Outcome]] = ()
        try:
            while batch := self._next_batch():
                self._busy[thread] = (time.monotonic(), batch)
                self._observer.batch_taken(self._name, len(batch))
                self._resolve(batch)
                del self._busy[thread]
        finally:
            for _, future in batch:
                _settle(future, WorkLost())

    def _resolve(self, batch: Sequence[_Queued[Job, Outcome]]) -> None:
        """Run a batch; if it raises, run its jobs one by one, so that each fails for its own fault only."""
        try:
            outcomes = self._run_batch([job for job, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                with contextlib.suppress(concurrent.futures.InvalidStateError):  # abandoned
                    future.set_result(outcome)
            self._failures = 0
            return
        except Exception as error:
            logger.exception("a batch of %d jobs failed", len(batch))
            self._permanent_fault = self._permanent_fault or self._is_permanent(error)
            if len(batch) == 1:
                # Too little memory for one job says nothing of the next.
                self._failures += not isinstance(error, QueueFull)
                _settle(batch[0][1], error)
                return
        # Outside of the except clause, where the error would hold what the batch held.
        for queued in batch:
            self._resolve([queued])

    def _next_batch(self) -> Sequence[_Queued[Job, Outcome]]:
        """Jobs up to the batch limit, at least one; none when closed. Cancelled jobs are dropped."""
        with self._changed:
            while True:
                batch: list[_Queued[Job, Outcome]] = []
                work = 0
                while self._lanes:
                    lane, waiting = next(iter(self._lanes.items()))
                    job, future = waiting[0]
                    if batch and work + self._work_of(job) > self._max_batch_work:
                        break
                    waiting.popleft()
                    self._queued_work -= self._work_of(job)
                    # The lane's next job comes after one of every other lane.
                    self._lanes.move_to_end(lane)
                    if not waiting:
                        del self._lanes[lane]
                    if future.set_running_or_notify_cancel():
                        batch.append((job, future))
                        work += self._work_of(job)
                if batch or self._closing:
                    return batch
                self._changed.wait()


_Queued = tuple[Job, concurrent.futures.Future[Outcome]]


def _settle(future: concurrent.futures.Future[Outcome], error: BaseException) -> None:
    """Let a job fail that has not ended yet."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        future.set_exception(error)
