"""Threads that work through what has queued, in batches, each lane in its turn."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger("csrn")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Lane = Hashable
"""Whose work it is: lanes take turns, so that one's long queue does not keep the others waiting"""


class QueueFull(Exception):
    """More work waits than is allowed; try again later."""


class Batcher(Generic[Job, Outcome]):
    """Runs jobs in batches on threads of its own.

    There is no timer: an idle thread takes a job at once, a busy one finds a batch when it is done.
    Every job resolves: with its outcome, with the exception that it raised, or cancelled. A job that
    is cancelled while it waits costs nothing.
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
    ) -> None:
        """run_batch: one outcome per job, in order. work_of: how much of either limit a job uses."""
        self._run_batch, self._work_of = run_batch, work_of
        self._max_batch_work, self._max_queued_work = max_batch_work, max_queued_work
        self._lanes: collections.OrderedDict[
            Lane, collections.deque[tuple[Job, concurrent.futures.Future[Outcome]]]
        ] = collections.OrderedDict()
        self._queued_work = 0
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def require_room(self, work: int) -> None:
        """Raises: QueueFull where that much more does not fit; an empty queue takes any one request."""
        if self._closing or (self._lanes and self._queued_work + work > self._max_queued_work):
            raise QueueFull

    async def submit(self, job: Job, *, lane: Lane = None) -> Outcome:
        """The job's outcome. Raises: QueueFull; whatever the job raised."""
        (future,) = self._put([job], lane)
        return await asyncio.wrap_future(future)

    async def submit_all(self, jobs: Sequence[Job], *, lane: Lane = None) -> list[Outcome]:
        """The outcomes of jobs that are queued all or none. Raises: as submit."""
        return await asyncio.gather(*map(asyncio.wrap_future, self._put(jobs, lane)))

    def close(self) -> None:
        """Finish what is queued, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

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
        while batch := self._next_batch():
            self._resolve(batch)

    def _resolve(self, batch: Sequence[tuple[Job, concurrent.futures.Future[Outcome]]]) -> None:
        """Run a batch; where it raises, its jobs one by one, so that each fails for its own fault only."""
        try:
            outcomes = self._run_batch([job for job, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                future.set_result(outcome)
        except Exception as error:
            logger.exception("a batch of %d jobs failed", len(batch))
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for item in batch:
                    self._resolve([item])

    def _next_batch(self) -> list[tuple[Job, concurrent.futures.Future[Outcome]]]:
        """Jobs up to the batch limit, at least one; empty when closed. Cancelled jobs are dropped."""
        with self._changed:
            while True:
                batch: list[tuple[Job, concurrent.futures.Future[Outcome]]] = []
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
