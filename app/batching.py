"""One thread owns the device and works through whatever has queued while it was busy."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

logger = logging.getLogger("csrn")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


class QueueFull(Exception):
    """More work waits than is allowed; try again later."""


class Batcher(Generic[Job, Outcome]):
    """Runs jobs in batches on a thread of its own.

    There is no timer: an idle thread takes a job at once, a busy one finds a batch when it is done.
    Every job resolves: with its outcome, with the exception that it raised, or cancelled.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Job]], Sequence[Outcome]],
        *,
        work_of: Callable[[Job], int],
        max_batch_work: int,
        max_queued_work: int,
    ) -> None:
        """run_batch: one outcome per job, in order. work_of: how much of either limit a job uses."""
        self._run_batch, self._work_of = run_batch, work_of
        self._max_batch_work, self._max_queued_work = max_batch_work, max_queued_work
        self._queue: collections.deque[tuple[Job, concurrent.futures.Future[Outcome]]] = collections.deque()
        self._queued_work = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def submit(self, job: Job) -> Outcome:
        """The job's outcome. Raises: QueueFull; whatever the job raised."""
        future: concurrent.futures.Future[Outcome] = concurrent.futures.Future()
        with self._changed:
            # A job that is larger than the limit has its turn once nothing else waits.
            full = self._queue and self._queued_work + self._work_of(job) > self._max_queued_work
            if self._closing or full:
                raise QueueFull
            self._queue.append((job, future))
            self._queued_work += self._work_of(job)
            self._changed.notify()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what is queued, then end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

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
                while self._queue:
                    job, future = self._queue[0]
                    if batch and work + self._work_of(job) > self._max_batch_work:
                        break
                    self._queue.popleft()
                    self._queued_work -= self._work_of(job)
                    if future.set_running_or_notify_cancel():
                        batch.append((job, future))
                        work += self._work_of(job)
                if batch or self._closing:
                    return batch
                self._changed.wait()
