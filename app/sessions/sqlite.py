"""SQLite: the embedded default, one file on a local disk.

New content goes to a log beside the file (PATH-wal) and moves from there to the file. On a full disk deletes
still work: they need room in the log before they free any, and take it from the reserve.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from app.sessions.database import Database, T, Values, Work
from app.sessions.errors import StoreFull, StoreUnavailable
from app.sessions.reserve import Reserve

BUSY_TIMEOUT_MS = 5000
"""The longest that a write waits for another process"""
TRUNCATE_TIMEOUT_MS = 100
"""The longest that emptying the log waits for readers in other processes"""
ROOM_BYTES = 2**20
"""A disk with less free space may be full"""
PRAGMAS = (
    # The file shrinks with each delete. Must come before the first table.
    "auto_vacuum = FULL",
    "journal_mode = WAL",
    # Each write reaches the disk before it is acknowledged.
    "synchronous = FULL",
    # The service empties the log itself, because SQLite ignores a full disk when it does.
    "wal_autocheckpoint = 0",
    "foreign_keys = ON",
    # Deleted bytes are overwritten with zeros.
    "secure_delete = ON",
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
)


class SqliteDatabase(Database):
    """An SQLite file in WAL mode. One thread with one connection does all the work of a process."""

    def __init__(self, path: Path) -> None:
        """Opens the file or creates it. Raises: StoreUnavailable; SchemaUnknown."""
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)), pool_size=1, max_overflow=0, hide_parameters=True
        )
        sa.event.listen(engine, "connect", _configure)
        sa.event.listen(engine, "begin", _begin)
        writes = engine.execution_options(begin="BEGIN IMMEDIATE")
        super().__init__(reads=engine, writes=writes, threads=1)
        self._folder, self._log = path.parent, path.with_name(f"{path.name}-wal")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            # SQLite gives the log the permissions of the file.
            path.chmod(0o600)
            self._reserve = Reserve(path.with_name(f"{path.name}-reserve"))
            self._threads.submit(self._open).result()
        except OSError as error:
            raise StoreUnavailable(f"{path}: {error.strerror}") from error
        except StoreUnavailable as error:
            self._threads.shutdown()
            raise type(error)(f"{path}: {error}") from error

    def _open(self) -> None:
        self._erase(lambda _: None)
        self._settle()

    def _read_row(self, statement: sa.Select[Any], values: Values) -> Sequence[Any] | None:
        """Runs the compiled statement without SQLAlchemy, which takes ten times as long as SQLite."""
        with self._faults(), contextlib.closing(self._reads.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(_compiled(statement), values)
            return cursor.fetchone()

    def _write(self, work: Work[T]) -> T:
        self._limit_log()
        self._require_reserve()
        try:
            return super()._write(work)
        except StoreFull:
            # Emptying the log may free enough.
            self._settle()
            self._require_reserve()
            return super()._write(work)

    def _erase(self, work: Work[T]) -> T:
        self._limit_log()
        try:
            return super()._erase(work)
        except StoreFull:
            self._reserve.release()
            self._truncate_log()
            return super()._erase(work)

    def _settle(self) -> None:
        """Empty the log, on a full disk with the help of the reserve, and fill the reserve up again."""
        if not self._truncate_log():
            self._reserve.release()
            self._truncate_log()
        self._reserve.take()

    def _limit_log(self) -> None:
        """Keep the log small enough that the file can take its content with the help of the reserve."""
        if self._log.exists() and self._log.stat().st_size > self._reserve.size_bytes // 8:
            self._settle()

    def _require_reserve(self) -> None:
        """Raises: StoreFull."""
        if not self._reserve.take():
            self._full = True
            raise StoreFull("the disk is full")

    def _may_be_full(self) -> bool:
        return super()._may_be_full() or shutil.disk_usage(self._folder).free < ROOM_BYTES

    def _truncate_log(self) -> bool:
        """Move the log's content to the file and empty the log. False if the disk has no room for that.

        The log stays as it is while another process reads.
        """
        try:
            with self._faults(), contextlib.closing(self._writes.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {TRUNCATE_TIMEOUT_MS}")
                try:
                    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        except StoreFull:
            return False
        return True


def _configure(connection: Any, _: object) -> None:
    """Set up a new connection."""
    # SQLAlchemy begins the transactions, not the driver.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        raise sqlite3.OperationalError("its file system does not support SQLite's write-ahead log")


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


@functools.cache
def _compiled(statement: sa.Select[Any]) -> str:
    """The SQL of a constant statement, with named parameters."""
    return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))
