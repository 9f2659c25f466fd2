"""Sessions in one SQLite file: the embedded default, durable across restarts and kill -9."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from app.sessions.features import features_from_bytes, features_to_bytes
from app.sessions.sqlite_file import open_database, transaction, truncate_log
from app.sessions.store import (
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    NewSession,
    Quotas,
    Session,
    SessionLimit,
    SessionNotFound,
    StoreUnavailable,
)
from model.support_set import Example

T = TypeVar("T")

Row = sqlite3.Row


class SqliteStore:
    """A SessionStore on one SQLite file in WAL mode. All access is on one thread of its own."""

    def __init__(self, path: Path, *, quotas: Quotas) -> None:
        """Opens the file, or makes it. Raises: StoreUnavailable."""
        self._quotas = quotas
        self._erasure_pending = False
        """Something deleted is still in the log, because another process was reading it"""
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._database = self._thread.submit(open_database, path).result()

    async def create(self, owner: str, new: NewSession, examples: Sequence[Example] = ()) -> Session:
        return await self._write(lambda: self._create(owner, new, examples))

    async def get(self, owner: str, session_id: str) -> Session:
        return await self._read(lambda: self._session(self._find(owner, session_id)))

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        return await self._read(lambda: self._list(owner, limit, cursor))

    async def delete(self, owner: str, session_id: str) -> None:
        def delete() -> None:
            number = self._find(owner, session_id)["number"]
            self._execute("DELETE FROM sessions WHERE number = ?", number)

        await self._write(delete, erases=True)

    async def add_examples(self, owner: str, session_id: str, examples: Sequence[Example]) -> Session:
        return await self._write(lambda: self._add(self._find(owner, session_id), examples))

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> Session:
        def replace() -> Session:
            session = self._find(owner, session_id)
            self._delete_class(session, label)
            return self._add(session, examples)

        return await self._write(replace, erases=True)

    async def example_ids(self, owner: str, session_id: str, label: str) -> Sequence[str]:
        return await self._read(lambda: self._example_ids(self._find(owner, session_id), label))

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        def delete() -> None:
            session = self._find(owner, session_id)
            self._example_ids(session, label)
            self._delete_class(session, label)
            self._raise_revision(session)

        await self._write(delete, erases=True)

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        def delete() -> None:
            session = self._find(owner, session_id)
            if example_id not in self._example_ids(session, label):
                raise ExampleNotFound
            self._execute(
                "DELETE FROM examples WHERE session = ? AND example_id = ?",
                session["number"],
                example_id,
            )
            self._raise_revision(session)

        await self._write(delete, erases=True)

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]:
        def load() -> tuple[Session, Sequence[Example]]:
            session = self._find(owner, session_id)
            rows = self._execute(
                "SELECT * FROM examples WHERE session = ? ORDER BY number", session["number"]
            )
            return self._session(session), [_example(row) for row in rows]

        return await self._read(load)

    async def revisions(self, session_ids: Iterable[str]) -> dict[str, int]:
        ids = json.dumps([*session_ids])

        def revisions() -> dict[str, int]:
            rows = self._execute(
                "SELECT id, revision FROM sessions"
                " WHERE id IN (SELECT value FROM json_each(?)) AND coalesce(expires_at, 9e999) > ?",
                ids,
                time.time(),
            )
            return {row["id"]: row["revision"] for row in rows}

        return await self._read(revisions)

    async def count(self) -> int:
        def count() -> int:
            # Each of the two counts reads an index alone.
            (found,) = self._execute(
                "SELECT (SELECT count(*) FROM sessions)"
                " - (SELECT count(*) FROM sessions WHERE expires_at <= ?)",
                time.time(),
            ).fetchone()
            return int(found)

        return await self._read(count)

    async def sweep(self) -> None:
        def expired() -> bool:
            found = self._execute("SELECT 1 FROM sessions WHERE expires_at <= ? LIMIT 1", time.time())
            return found.fetchone() is not None

        def delete() -> None:
            self._execute("DELETE FROM sessions WHERE expires_at <= ?", time.time())

        if self._erasure_pending or await self._read(expired):
            await self._write(delete, erases=True)

    async def check(self) -> None:
        await self._read(lambda: self._execute("SELECT 1 FROM sessions LIMIT 1").fetchall())

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def _read(self, work: Callable[[], T]) -> T:
        """Runs `work` on one snapshot of the database."""
        return await self._run(work, "BEGIN")

    async def _write(self, work: Callable[[], T], *, erases: bool = False) -> T:
        """Runs `work` as one transaction; a cancelled request does not stop it half-way.

        erases: what it deletes shall leave the write-ahead log too.
        """
        return await asyncio.shield(self._run(work, "BEGIN IMMEDIATE", erases=erases))

    async def _run(self, work: Callable[[], T], begin: str, *, erases: bool = False) -> T:
        def run() -> T:
            try:
                with transaction(self._database, begin):
                    done = work()
                if erases:
                    self._erasure_pending = not truncate_log(self._database)
            except sqlite3.Error as error:
                raise StoreUnavailable(str(error)) from error
            return done

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._database.execute(statement, values)

    def _create(self, owner: str, new: NewSession, examples: Sequence[Example]) -> Session:
        now = time.time()
        (count,) = self._execute(
            "SELECT count(*) FROM sessions WHERE owner = ? AND coalesce(expires_at, 9e999) > ?",
            owner,
            now,
        ).fetchone()
        if count >= self._quotas.sessions:
            raise SessionLimit
        session_id = secrets.token_hex(16)
        self._execute(
            "INSERT INTO sessions (id, owner, name, created_at, expires_at, weights_sha256, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            session_id,
            owner,
            new.name,
            now,
            None if new.ttl_s is None else now + new.ttl_s,
            new.weights_sha256,
            json.dumps(new.metadata, ensure_ascii=False),
        )
        session = self._find(owner, session_id)
        return self._add(session, examples) if examples else self._session(session)

    def _list(self, owner: str, limit: int, cursor: str | None) -> tuple[list[Session], str | None]:
        after = int(cursor or 0)
        rows = self._execute(
            "SELECT * FROM sessions WHERE owner = ? AND number > ? AND coalesce(expires_at, 9e999) > ?"
            " ORDER BY number LIMIT ?",
            owner,
            after,
            time.time(),
            limit + 1,
        ).fetchall()
        page = rows[:limit]
        next_cursor = str(page[-1]["number"]) if len(rows) > limit else None
        return [self._session(row) for row in page], next_cursor

    def _find(self, owner: str, session_id: str) -> Row:
        row: Row | None = self._execute(
            "SELECT * FROM sessions WHERE id = ? AND owner = ? AND coalesce(expires_at, 9e999) > ?",
            session_id,
            owner,
            time.time(),
        ).fetchone()
        if row is None:
            raise SessionNotFound
        return row

    def _session(self, row: Row) -> Session:
        counts = self._execute(
            "SELECT label, count(*) AS examples FROM examples WHERE session = ?"
            " GROUP BY label ORDER BY min(number)",
            row["number"],
        )
        return Session(
            id=row["id"],
            name=row["name"],
            created_at=_moment(row["created_at"]),
            expires_at=None if row["expires_at"] is None else _moment(row["expires_at"]),
            revision=row["revision"],
            weights_sha256=row["weights_sha256"],
            metadata=json.loads(row["metadata"]),
            classes={count["label"]: count["examples"] for count in counts},
        )

    def _add(self, session: Row, examples: Sequence[Example]) -> Session:
        for example in examples:
            try:
                self._execute(
                    "INSERT INTO examples (session, label, example_id, features) VALUES (?, ?, ?, ?)",
                    session["number"],
                    example.label,
                    example.example_id,
                    features_to_bytes(example.features),
                )
            except sqlite3.IntegrityError:
                raise ExampleExists(example.example_id) from None
        self._raise_revision(session)
        changed = self._session(self._find(session["owner"], session["id"]))
        if len(changed.classes) > self._quotas.classes:
            raise ClassLimit
        if sum(changed.classes.values()) > self._quotas.examples:
            raise ExampleLimit
        return changed

    def _example_ids(self, session: Row, label: str) -> list[str]:
        rows = self._execute(
            "SELECT example_id FROM examples WHERE session = ? AND label = ? ORDER BY number",
            session["number"],
            label,
        ).fetchall()
        if not rows:
            raise ClassNotFound
        return [row["example_id"] for row in rows]

    def _delete_class(self, session: Row, label: str) -> None:
        self._execute("DELETE FROM examples WHERE session = ? AND label = ?", session["number"], label)

    def _raise_revision(self, session: Row) -> None:
        self._execute("UPDATE sessions SET revision = revision + 1 WHERE number = ?", session["number"])


def _example(row: Row) -> Example:
    return Example(
        example_id=row["example_id"],
        label=row["label"],
        features=features_from_bytes(row["features"]),
    )


def _moment(timestamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
