"""A database: its connections, threads and transactions, and what failed, in the store's own errors."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import TypeVar

import sqlalchemy as sa

from app.sessions import migrations
from app.sessions.errors import StoreFull, StoreUnavailable

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
"""Statements that are to run in one transaction"""
ANSWER_TIMEOUT_S = 10.0
"""How long a call waits for the database"""


class Database(abc.ABC):
    """Runs transactions on threads of its own. Every call may raise StoreUnavailable."""

    def __init__(self, *, reads: sa.Engine, writes: sa.Engine, threads: int) -> None:
        """reads: its transactions see one moment of the database; writes: the same engine, for changes."""
        self._reads, self._writes = reads, writes
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._upgraded = False

    async def read(self, work: Work[T]) -> T:
        """What `work` returns; it sees the database as it is at one moment."""
        return await self._run(lambda: self._transact(self._reads, work))

    async def write(self, work: Work[T]) -> T:
        """What `work` returns once its changes are durable. Raises: StoreFull; then nothing has changed."""
        return await self._run(lambda: self._write(work))

    async def erase(self, work: Work[T]) -> T:
        """As write and settle, for work that only deletes: it succeeds on a full disk, too."""
        done = await self._run(lambda: self._erase(work))
        await self.settle()
        return done

    async def check(self) -> None:
        """Returns if the database can be read and written. Raises: StoreFull."""
        await self._run(self._check)

    async def tidy(self) -> None:
        """Give the room of what was deleted back to the disk, in steps that keep no request waiting."""
        return

    async def settle(self) -> None:
        """Remove what a write has deleted from the database's files, as far as the database can."""
        return

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._writes.dispose)
        self._threads.shutdown()

    @abc.abstractmethod
    def lock_owner(self, connection: sa.Connection, owner: str) -> None:
        """Let no other transaction write for the same owner until this one ends."""

    def _write(self, work: Work[T]) -> T:
        return self._transact(self._writes, work)

    def _erase(self, work: Work[T]) -> T:
        return self._transact(self._writes, work)

    @abc.abstractmethod
    def _check(self) -> None: ...

    @abc.abstractmethod
    def _lock_schema(self, connection: sa.Connection) -> None:
        """Let no other process migrate the database until the transaction ends."""

    @abc.abstractmethod
    def _is_full(self, error: BaseException) -> bool:
        """Whether the driver's error says that the disk or a quota has no room."""

    def _upgrade(self) -> None:
        """Bring the schema to this release's. Raises: SchemaUnknown."""
        with self._faults(), self._writes.begin() as connection:
            self._lock_schema(connection)
            migrations.upgrade(connection)
        self._upgraded = True

    def _transact(self, engine: sa.Engine, work: Work[T]) -> T:
        if not self._upgraded:
            self._upgrade()
        with self._faults(), engine.begin() as connection:
            return work(connection)

    async def _run(self, work: Callable[[], T]) -> T:
        """Runs `work` on a thread; a cancelled request does not stop it halfway."""
        done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                return await asyncio.shield(done)
        except TimeoutError:
            raise StoreUnavailable(f"no answer for {ANSWER_TIMEOUT_S:g} s") from None

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns the driver's errors into StoreUnavailable and StoreFull."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            # Later lines quote values, such as labels.
            text = (str(cause).splitlines() or [type(cause).__name__])[0]
            raise (StoreFull if self._is_full(cause) else StoreUnavailable)(text) from error
