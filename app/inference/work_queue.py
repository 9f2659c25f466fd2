"""Threads that run queued jobs in batches."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Generic, TypeVar

from app.inference.errors import DeviceLost, QueueFull, WorkLost
from app.inference.fairness import Lane, Lanes
from app.inference.observer import Observer

logger = logging.getLogger("csrn")

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

CLOSE_S = 5
MAX_FAILURES = 5
"""Batches in a row that raise before the thread counts as broken"""


class WorkQueue:
    """Runs jobs in batches on its own threads.

    There is no timer: an idle thread starts a job at once, and a busy thread takes its next batch when it
    has finished the last one. Every job ends with its outcome, with the exception that it raised, or
    cancelled.

    Jobs that need room and jobs that need none wait apart. The two kinds take turns, and within each kind the
    owners and their sessions do. If too little room is left for the next job that needs some, jobs that need
    none pass it, and no other does: it starts at the latest when the running jobs have returned their room.

    A job that is cancelled while it waits never runs. A broken queue stays broken: `fault` says why, and the
    process ends (app.inference.watchdog).
    """

    def __init__(
        self,
        *,
        name: str,
        threads: int = 1,
        max_batch: int = 1,
        max_queued: int,
        room: int = 0,
        stall_s: float = 60,
        observer: Observer = Observer(),
    ) -> None:
        """Start the threads.

        Args:
            name: name of the threads, and of this queue in the reports to `observer`.
            max_batch: largest total size of a batch; a larger job runs alone.
            room: the running jobs take at most this room together, in a unit of the caller's choice. A job
                that needs more than all of it runs while no other job takes room.
            max_queued: total size of the waiting jobs above which keys that already wait are refused.
            stall_s: a thread that works on one batch for longer is stuck.
        """
        self._max_batch, self._max_queued = max_batch, max_queued
        self._room, self._room_taken = room, 0
        self._name, self._stall_s, self._observer = name, stall_s, observer
        self._without_room: Lanes[_Queued[Any, Any]] = Lanes()
        self._with_room: Lanes[_Queued[Any, Any]] = Lanes()
        self._kinds = collections.deque([self._with_room, self._without_room])
        """The kind of waiting jobs whose turn it is comes first"""
        self.queued = 0
        """Total size of the jobs that wait"""
        self._changed = threading.Condition()
        self._closing = False
        self._failures = 0
        self._fault: str | None = None
        self._running: dict[threading.Thread, tuple[float, Sequence[_Queued[Any, Any]]]] = {}
        """The batch of each busy thread and its start by time.monotonic()"""
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def fault(self) -> str | None:
        """Why the queue is broken, or None."""
        longest_s = max((time.monotonic() - start for start, _ in [*self._running.values()]), default=0)
        if self._fault is None and longest_s > self._stall_s:
            return f"a {self._name} thread has worked on one batch for more than {self._stall_s:g} s"
        return self._fault

    async def submit(
        self,
        run_batch: Callable[[Sequence[Job]], Sequence[Outcome]],
        jobs: Sequence[Job],
        *,
        size_of: Callable[[Job], int] = lambda job: 1,
        room_of: Callable[[Job], int] = lambda job: 0,
        lane: Lane = Lane(),
    ) -> list[Outcome]:
        """Queue all jobs or none, and return their outcomes in order.

        Args:
            run_batch: returns one outcome for each job of a batch, in order. A batch holds only jobs that
                were submitted with the same function.
            size_of: how much of a batch and of the queue a job takes.
            room_of: how much room a job takes while it runs. Jobs that wait for room stay in the queue, not
                in a thread, and jobs that take none pass them.

        Raises: QueueFull if the jobs do not fit and the owner of the lane has others in the queue;
            WorkLost; what a job raised.
        """
        queued = [
            _Queued(run_batch=run_batch, job=job, size=size_of(job), room=room_of(job), future=Future())
            for job in jobs
        ]
        size = sum(one.size for one in queued)
        with self._changed:
            waits = any(lane.owner in kind for kind in self._kinds)
            if self._closing or (waits and self.queued + size > self._max_queued):
                self._observer.queue_was_full(self._name)
                raise QueueFull
            for one in queued:
                (self._with_room if one.room else self._without_room).add(lane, [one])
            self.queued += size
            self._changed.notify(len(queued))
        return await asyncio.gather(*(asyncio.wrap_future(one.future) for one in queued))

    def close(self) -> None:
        """Finish the queued jobs and end the threads; wait at most CLOSE_S for each."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_S)

    def fail_all(self) -> None:
        """Fail every waiting or running job with WorkLost, because the process is about to end."""
        with self._changed:
            self._closing = True
            while (queued := self._take(lambda _: True)) is not None:
                _fail([queued], WorkLost())
            self._changed.notify_all()
        for _, batch in [*self._running.values()]:
            _fail(batch, WorkLost())

    def _work(self) -> None:
        thread = threading.current_thread()
        batch: Sequence[_Queued[Any, Any]] = ()
        try:
            while batch := self._next_batch():
                self._running[thread] = (time.monotonic(), batch)
                self._observer.batch_taken(self._name, len(batch))
                self._run(batch)
                del self._running[thread]
                self._return_room(sum(queued.room for queued in batch))
                batch = ()  # An idle thread keeps no images or faces in memory.
        except BaseException:
            self._fault = f"a {self._name} thread has died"
            _fail(batch, WorkLost())
            raise

    def _run(self, batch: Sequence[_Queued[Job, Outcome]]) -> None:
        """Run a batch. If it raises, run each job alone, so that only the jobs at fault fail."""
        try:
            outcomes = batch[0].run_batch([queued.job for queued in batch])
            self._failures = 0
            for queued, outcome in zip(batch, outcomes, strict=True):
                with contextlib.suppress(InvalidStateError):  # fail_all came first
                    queued.future.set_result(outcome)
            return
        except Exception as error:
            logger.exception("a batch of %d jobs failed", len(batch))
            # QueueFull means that one job needs too much memory: the next may need less.
            self._failures += len(batch) == 1 and not isinstance(error, QueueFull)
            if isinstance(error, DeviceLost):
                self._fault = f"the {self._name} thread met a permanent error"
            elif self._failures >= MAX_FAILURES:
                self._fault = f"{MAX_FAILURES} batches in a row failed on the {self._name} thread"
            if len(batch) == 1 or self._fault:
                _fail(batch, error)
                return
        # Outside of the except clause, because the error keeps the memory of the batch in use.
        for queued in batch:
            self._run([queued])

    def _next_batch(self) -> Sequence[_Queued[Any, Any]]:
        """Wait for jobs. Returns: at least one, or none once the queue is closed."""
        with self._changed:
            while not (batch := self._take_batch()) and not self._closing:
                self._changed.wait()
            return batch

    def _take_batch(self) -> Sequence[_Queued[Any, Any]]:
        batch: list[_Queued[Any, Any]] = []
        left = self._max_batch
        room_is_short = False

        def fits(queued: _Queued[Any, Any]) -> bool:
            nonlocal room_is_short
            if queued.future.cancelled():
                return True  # It is removed, and takes nothing.
            if batch and (queued.run_batch != batch[0].run_batch or queued.size > left):
                return False
            if not queued.room:
                return True
            # Once a job needs more room than is free, no later job may take room before it.
            room_is_short |= 0 < self._room_taken > self._room - queued.room
            return not room_is_short

        while (queued := self._take(fits)) is not None:
            self.queued -= queued.size
            if queued.future.set_running_or_notify_cancel():
                batch.append(queued)
                left -= queued.size
                self._room_taken += queued.room
        return batch

    def _take(self, wanted: Callable[[_Queued[Any, Any]], bool]) -> _Queued[Any, Any] | None:
        """Remove the first wanted job of the kind whose turn it is, or else of the other kind."""
        for kind in self._kinds:
            if (queued := kind.take(wanted)) is not None:
                self._kinds.remove(kind)
                self._kinds.append(kind)
                return queued
        return None

    def _return_room(self, room: int) -> None:
        if room:
            with self._changed:
                self._room_taken -= room
                self._changed.notify_all()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Queued(Generic[Job, Outcome]):
    run_batch: Callable[[Sequence[Job]], Sequence[Outcome]]
    job: Job
    size: int
    room: int
    future: Future[Outcome]


def _fail(batch: Sequence[_Queued[Any, Any]], error: BaseException) -> None:
    """Fail the jobs that have not ended yet."""
    for queued in batch:
        with contextlib.suppress(InvalidStateError):
            queued.future.set_exception(error)
