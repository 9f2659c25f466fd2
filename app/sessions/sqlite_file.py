"""The SQLite file of the session store: how it is opened, its schema, its transactions."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from app.sessions.store import StoreUnavailable

MIGRATIONS = (
    """
    CREATE TABLE sessions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        name TEXT,
        created_at REAL NOT NULL,
        expires_at REAL,
        revision INTEGER NOT NULL DEFAULT 0,
        weights_sha256 TEXT NOT NULL,
        metadata TEXT NOT NULL
    );
    CREATE INDEX sessions_by_owner ON sessions (owner, number);
    CREATE INDEX sessions_by_expiry ON sessions (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE examples (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        session INTEGER NOT NULL REFERENCES sessions (number) ON DELETE CASCADE,
        label TEXT NOT NULL,
        example_id TEXT NOT NULL,
        features BLOB NOT NULL,
        UNIQUE (session, example_id)
    );
    CREATE INDEX examples_by_label ON examples (session, label, number);
    """,
)
"""Step n brings schema version n to n + 1."""
BUSY_TIMEOUT_MS = 5000
"""How long a write waits for one of another process"""
TRUNCATE_TIMEOUT_MS = 100


def open_database(path: Path) -> sqlite3.Connection:
    """Opens the file, or makes it, and brings it to this schema. Raises: StoreUnavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, isolation_level=None)
        database.row_factory = sqlite3.Row
        (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise sqlite3.OperationalError("its file system has no write-ahead log")
        # FULL: what was acknowledged survives a power cut too, not only a killed process.
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")
        _migrate(database)
        truncate_log(database)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path}: {error}") from error
    return database


def _migrate(database: sqlite3.Connection) -> None:
    with transaction(database, "BEGIN IMMEDIATE"):
        version: int = database.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"schema version {version} is of a newer release")
        for step in MIGRATIONS[version:]:
            for statement in step.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def truncate_log(database: sqlite3.Connection) -> bool:
    """Move all of the write-ahead log to the file and empty it; false where a reader is in the way."""
    database.execute(f"PRAGMA busy_timeout = {TRUNCATE_TIMEOUT_MS}")
    (busy, _, _) = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    database.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    return not busy


@contextlib.contextmanager
def transaction(database: sqlite3.Connection, begin: str) -> Iterator[None]:
    """Commits at the end, rolls back on any exception. begin: the statement that begins it."""
    database.execute(begin)
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
