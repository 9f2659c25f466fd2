"""Transactions on a database: threads, connections, and the driver's errors as errors of the store."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from app.sessions import changes, migrations
from app.sessions.errors import StoreFull, StoreUnavailable
from app.sessions.schema import sessions

T = TypeVar("T")
Work = Callable[[sa.Connection], T]
"""Statements that run in one transaction"""
Values = Mapping[str, object]
"""The parameters of a statement, by name"""
ANSWER_TIMEOUT_S = 10.0
"""The longest that a call waits for the database"""
FULL = ("53100", sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""Error codes of PostgreSQL and SQLite for a full disk or an exhausted disk quota"""


class Database:
    """Runs transactions on its own threads. Every call may raise StoreUnavailable."""

    def __init__(self, *, reads: sa.Engine, writes: sa.Engine, threads: int) -> None:
        """reads: each of its transactions sees the database at one moment. writes: the engine for changes."""
        self._reads, self._writes = reads, writes
        self._threads = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._upgraded = self._full = False

    def upgrade(self) -> None:
        """Bring the database to this release's schema. Raises: SchemaUnknown."""
        with self._faults(), self._writes.begin() as connection:
            migrations.upgrade(connection)
        self._upgraded = True

    async def read(self, work: Work[T]) -> T:
        return await self._run(lambda: self._transact(self._reads, work))

    async def read_row(self, statement: sa.Select[Any], values: Values) -> Sequence[Any] | None:
        """The row that a constant statement selects, or None. Faster than `read`."""
        return await self._run(lambda: self._read_row(statement, values))

    async def write(self, work: Work[T]) -> T:
        """What `work` returns, once its changes are durable. Raises: StoreFull."""
        return await self._run(lambda: self._write(work))

    async def erase(self, work: Work[T]) -> T:
        """As write, for work that only deletes: it succeeds on a full disk too."""
        return await self._run(lambda: self._erase(work))

    async def settle(self) -> None:
        """Remove deleted content from the database's files, as far as the database can."""
        await self._run(self._settle)

    async def check(self) -> None:
        """Make sure that the database can be read and, if it was full, written. Raises: StoreFull."""
        await self._run(self._check)

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, self._writes.dispose)
        self._threads.shutdown()

    def _read_row(self, statement: sa.Select[Any], values: Values) -> Sequence[Any] | None:
        return self._transact(self._reads, lambda c: c.execute(statement, values).one_or_none())

    def _write(self, work: Work[T]) -> T:
        return self._transact(self._writes, work)

    def _erase(self, work: Work[T]) -> T:
        return self._transact(self._writes, work)

    def _settle(self) -> None:
        """PostgreSQL does this by itself."""

    def _check(self) -> None:
        """A database that was full counts as full until a test write succeeds."""
        self._transact(self._reads, lambda c: c.execute(sa.select(sessions.c.number).limit(1)))
        if self._may_be_full():
            number = self._write(changes.insert_probe)
            self._erase(lambda c: changes.delete_part(c, sessions.c.number == number))
            self._full = False

    def _may_be_full(self) -> bool:
        return self._full

    def _transact(self, engine: sa.Engine, work: Work[T]) -> T:
        with self._faults():
            if not self._upgraded:
                self.upgrade()
            with engine.begin() as connection:
                return work(connection)

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` on a thread. Cancelling the caller does not stop work that has begun."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                # Not shielded from cancellation: asyncio would log an error that occurs after it, and the
                # error may quote a label.
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise StoreUnavailable(f"no answer for {ANSWER_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise StoreUnavailable(f"{error.filename}: {error.strerror}") from error

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn the driver's errors into StoreUnavailable and StoreFull."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
            cause = getattr(error, "orig", None) or error
            # The first line only: later lines quote values, such as labels.
            text = (str(cause).splitlines() or [type(cause).__name__])[0]
            code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorcode", None)
            if code in FULL:
                self._full = True
                raise StoreFull(text) from error
            raise StoreUnavailable(text) from error
