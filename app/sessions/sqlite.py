"""SQLite: the embedded default, one file on a local disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.sessions.database import Database, T, Work
from app.sessions.errors import StoreFull, StoreUnavailable
from app.sessions.reserve import Reserve

BUSY_TIMEOUT_MS = 5000
"""How long a write waits for one of another process"""
TRUNCATE_TIMEOUT_MS = 100
"""How long emptying the log waits for another process that reads it; the next sweep tries again"""
VACUUM_PAGES = 256
"""Pages of 4 KiB by which the file shrinks in one step"""
ROOM_PAGES = 64
"""Pages that must be free below PRAGMA max_page_count, or the file counts as full"""
PRAGMAS = (
    # Must come before the first table.
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    # FULL: an acknowledged write survives a power cut too, not only a killed process.
    "synchronous = FULL",
    "foreign_keys = ON",
    # Deleted bytes are overwritten with zeros.
    "secure_delete = ON",
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
)
FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
"""SQLite's error codes for a full disk, and for a disk quota that is used up"""


class SqliteDatabase(Database):
    """An SQLite file in WAL mode. One thread and one connection do all the work of a process."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or creates it. Raises: StoreUnavailable; SchemaUnknown."""
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
        writes = engine.execution_options(begin="BEGIN IMMEDIATE")
        super().__init__(reads=engine, writes=writes, threads=1)
        try:
            _create_private(path)
            self._reserve = Reserve(path.with_name(f"{path.name}-reserve"))
            self._threads.submit(self._open).result()
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        except StoreUnavailable as error:
            self._threads.shutdown()
            raise type(error)(f"{path}: {error}") from error

    async def tidy(self) -> None:
        while await self._run(self._shrink):
            pass
        await self.settle()

    async def settle(self) -> None:
        await self._run(self._settle)

    def _open(self) -> None:
        try:
            self._upgrade()
        except StoreFull:
            self._reserve.release()
            self._upgrade()
        self._settle()

    def _write(self, work: Work[T]) -> T:
        if not self._reserve.restore():
            raise StoreFull("the disk is full")
        try:
            return self._transact(self._writes, work)
        except StoreFull:
            # Emptying the log may be enough.
            self._truncate_log()
        try:
            return self._transact(self._writes, work)
        except StoreFull:
            self._truncate_log()
            raise

    def _erase(self, work: Work[T]) -> T:
        try:
            return self._transact(self._writes, work)
        except StoreFull:
            self._make_room()
        return self._transact(self._writes, work)

    def _settle(self) -> None:
        """Remove deleted content from the log; on a full disk, give room back until the reserve is whole."""
        if not self._truncate_log():
            self._make_room()
        if not self._reserve.whole:
            with contextlib.suppress(StoreFull):
                while self._shrink():
                    pass
            self._truncate_log()
            self._reserve.restore()

    def _make_room(self) -> None:
        self._reserve.release()
        self._truncate_log()

    def _shrink(self) -> bool:
        """Remove some free pages from the file; false when none are left."""
        with self._faults():
            with contextlib.closing(self._writes.raw_connection()) as connection:
                # Only a script runs this pragma to its end; else it frees a single page.
                connection.cursor().executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            return self._number("freelist_count") > 0

    def _truncate_log(self) -> bool:
        """Move the log's content to the file and empty it; false if the disk has no room for that.

        While another process reads, the log stays as it is.
        """
        with self._faults():
            self._pragma(f"busy_timeout = {TRUNCATE_TIMEOUT_MS}")
            try:
                self._pragma("wal_checkpoint(TRUNCATE)")
            except sqlite3.Error as error:
                if not self._is_full(error):
                    raise
                return False
            finally:
                self._pragma(f"busy_timeout = {BUSY_TIMEOUT_MS}")
        return True

    def _check(self) -> None:
        probe = sa.text("SELECT 1 FROM sessions LIMIT 1")
        self._transact(self._reads, lambda connection: connection.execute(probe))
        with self._faults():
            used = self._number("page_count") - self._number("freelist_count")
            room = self._number("max_page_count") - used
        if room < ROOM_PAGES or not (self._reserve.restore() and self._reserve.has_room_beside()):
            raise StoreFull("the disk is full")

    def lock_owner(self, connection: sa.Connection, owner: str) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def _lock_schema(self, connection: sa.Connection) -> None:
        """BEGIN IMMEDIATE has locked the whole file."""

    def _is_full(self, error: BaseException) -> bool:
        return getattr(error, "sqlite_errorcode", None) in FULL

    def _number(self, pragma: str) -> int:
        ((number,),) = self._pragma(pragma)
        return int(number)

    def _pragma(self, pragma: str) -> list[Any]:
        """The rows of a pragma, outside of any transaction."""
        with contextlib.closing(self._writes.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {pragma}")
            return list(cursor.fetchall())


def _configure(connection: Any, _: object) -> None:
    """Sets up a new connection."""
    # The driver itself begins no transactions.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise sqlite3.OperationalError("its file system does not support SQLite's write-ahead log")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _create_private(path: Path) -> None:
    """Creates the file, if it is missing, such that only this user may read it and the log beside it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for file in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError):
            file.chmod(0o600)
