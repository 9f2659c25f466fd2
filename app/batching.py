"""Threads that work through what has queued, in batches, each lane in its turn."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar, cast

from app.observer import Observer

logger = logging.getLogger("csrn")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")
Lane = Hashable
"""Whose work it is: lanes take turns, so that one's long queue does not keep the others waiting"""


CLOSE_S = 5


class QueueFull(Exception):
    """More work waits than is allowed; try again later."""


class WorkerLost(Exception):
    """The thread that had the job has died, or was given up because it was stuck."""


@dataclasses.dataclass(eq=False)
class _Worker(Generic[Job, Outcome]):
    """A thread and what it is busy with."""

    thread: threading.Thread = dataclasses.field(init=False)
    batch: Sequence[tuple[Job, concurrent.futures.Future[Outcome]]] = ()
    busy_since: float | None = None
    """By time.monotonic()"""
    given_up: bool = False
    ended: bool = False


class Batcher(Generic[Job, Outcome]):
    """Runs jobs in batches on threads of its own.

    There is no timer: an idle thread takes a job at once, a busy one finds a batch when it is done.
    Every job resolves: with its outcome, with the exception that it raised, or cancelled. A job that
    is cancelled while it waits costs nothing. A thread that dies fails what it had; `mend` puts another
    in its place, and in that of one which is stuck.
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
        observer: Observer = Observer(),
    ) -> None:
        """run_batch: one outcome per job, in order. work_of: how much of either limit a job uses.

        name: of the threads, and of the queue for `observer`. stall_s: a thread that is busy with one
        batch for so long is stuck.
        """
        self._run_batch, self._work_of = run_batch, work_of
        self._max_batch_work, self._max_queued_work = max_batch_work, max_queued_work
        self._lanes: collections.OrderedDict[
            Lane, collections.deque[tuple[Job, concurrent.futures.Future[Outcome]]]
        ] = collections.OrderedDict()
        self._queued_work = 0
        self._changed = threading.Condition()
        self._closing = False
        self._name, self._stall_s, self._observer = name, stall_s, observer
        self._workers = [self._start() for _ in range(threads)]

    @property
    def fault(self) -> str | None:
        """What is wrong with its threads, if anything is."""
        return next(filter(None, map(self._fault_of, self._workers)), None)

    def mend(self) -> None:
        """Put a new thread in the place of each that has died or is stuck. What a stuck one had fails."""
        for number, worker in enumerate(self._workers):
            if (fault := self._fault_of(worker)) and not self._closing:
                logger.critical("%s: another takes its place", fault)
                worker.given_up = True
                self._fail(worker)
                self._workers[number] = self._start()

    @property
    def queued_work(self) -> int:
        """How much waits, measured by work_of."""
        return self._queued_work

    def require_room(self, work: int) -> None:
        """Raises: QueueFull where that much more does not fit; an empty queue takes any one request."""
        if self._closing or (self._lanes and self._queued_work + work > self._max_queued_work):
            self._observer.queue_was_full(self._name)
            raise QueueFull

    async def submit(self, job: Job, *, lane: Lane = None) -> Outcome:
        """The job's outcome. Raises: QueueFull; whatever the job raised."""
        (future,) = self._put([job], lane)
        return await asyncio.wrap_future(future)

    async def submit_all(self, jobs: Sequence[Job], *, lane: Lane = None) -> list[Outcome]:
        """The outcomes of jobs that are queued all or none. Raises: as submit."""
        return await asyncio.gather(*map(asyncio.wrap_future, self._put(jobs, lane)))

    def close(self) -> None:
        """Finish what is queued, then end the threads. What takes longer than CLOSE_S is left behind."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + CLOSE_S
        for worker in self._workers:
            worker.thread.join(max(until - time.monotonic(), 0))

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

    def _start(self) -> _Worker[Job, Outcome]:
        worker: _Worker[Job, Outcome] = _Worker()
        worker.thread = threading.Thread(target=self._work, args=(worker,), name=self._name, daemon=True)
        worker.thread.start()
        return worker

    def _fault_of(self, worker: _Worker[Job, Outcome]) -> str | None:
        if worker.ended:
            return f"a {self._name} thread has died"
        since = worker.busy_since
        if since is not None and time.monotonic() - since > self._stall_s:
            return f"a {self._name} thread is stuck"
        return None

    def _work(self, worker: _Worker[Job, Outcome]) -> None:
        try:
            while not worker.given_up and (batch := self._next_batch()):
                worker.batch, worker.busy_since = batch, time.monotonic()
                self._observer.batch_taken(self._name, len(batch))
                self._resolve(batch)
                worker.batch, worker.busy_since = (), None
        finally:
            # In this order: whoever sees that the job failed sees why.
            worker.ended = True
            self._fail(worker)

    @staticmethod
    def _fail(worker: _Worker[Job, Outcome]) -> None:
        """Whatever the worker has not resolved."""
        for _, future in worker.batch:
            _settle(future, error=WorkerLost())

    def _resolve(self, batch: Sequence[tuple[Job, concurrent.futures.Future[Outcome]]]) -> None:
        """Run a batch; where it raises, its jobs one by one, so that each fails for its own fault only."""
        try:
            outcomes = self._run_batch([job for job, _ in batch])
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                _settle(future, outcome=outcome)
            return
        except Exception as error:
            logger.exception("a batch of %d jobs failed", len(batch))
            if len(batch) == 1:
                _settle(batch[0][1], error=error)
                return
        # Not above, where the error would hold what the batch held.
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


def _settle(
    future: concurrent.futures.Future[Outcome],
    *,
    outcome: Outcome | None = None,
    error: BaseException | None = None,
) -> None:
    """Resolve it, unless a thread that was given up had its job: then it is resolved already."""
    with contextlib.suppress(concurrent.futures.InvalidStateError):
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast(Outcome, outcome))
