"""The session store. It holds features and digests of images, never images.

A write is one transaction. When the call returns, the write is complete and durable. When it raises StoreFull
or another SessionError, nothing has changed; after any other StoreUnavailable the write is either complete or
absent. A session belongs to its owner, an API key: for another owner it does not exist.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from app.sessions import changes, queries, support_changes
from app.sessions.database import Database
from app.sessions.errors import SessionNotFound
from app.sessions.postgresql import open_postgresql
from app.sessions.quotas import Quotas
from app.sessions.schema import sessions
from app.sessions.sqlite import SqliteDatabase
from csrn_client.schemas import Class, ClassChange, NewSession, Session, SessionChange
from model.support_set import Example


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionVersion:
    """The facts about a session that decide whether a cached support set is current and may be used."""

    id: str
    revision: int
    weights_sha256: str


def open_store(address: str, *, quotas: Quotas) -> SessionStore:
    """The store at sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DB.

    A PostgreSQL server that cannot be reached yet is no error. Raises: StoreUnavailable; SchemaUnknown.
    """
    path = address.removeprefix("sqlite:///")
    database = open_postgresql(address) if path == address else SqliteDatabase(Path(path))
    return SessionStore(database, quotas=quotas)


class SessionStore:
    """Every call may raise StoreUnavailable. Calls that take a session id may raise SessionNotFound."""

    def __init__(self, database: Database, *, quotas: Quotas) -> None:
        self._database, self._quotas = database, quotas

    async def create(
        self,
        owner: str,
        new: NewSession,
        examples: Sequence[Example] = (),
        *,
        disabled: Sequence[str] = (),
        weights_sha256: str,
    ) -> Session:
        """Create a session with these examples. Raises: SessionLimit, and the errors of add_examples.

        Args: disabled, the labels of the classes that are not scored.
        """
        return await self._database.write(
            lambda c: changes.create(c, owner, new, weights_sha256, examples, self._quotas, disabled=disabled)
        )

    async def update(self, owner: str, session_id: str, change: SessionChange) -> Session:
        """Change the settings that the change names; the revision stays. Raises: ByteLimit; StoreFull."""
        updated = await self._database.write(
            lambda c: changes.update(c, owner, session_id, change, self._quotas)
        )
        await self._database.settle()
        return updated

    async def get(self, owner: str, session_id: str) -> Session:
        _, session = await self._database.read(lambda c: queries.get_session(c, owner, session_id))
        return session

    async def version(self, owner: str, session_id: str) -> SessionVersion:
        """The current revision and weights of a session."""
        row = await self._database.read_row(queries.VERSION, {"of_owner": owner, "of_id": session_id})
        if row is None:
            raise SessionNotFound
        revision, weights_sha256 = row
        return SessionVersion(id=session_id, revision=revision, weights_sha256=weights_sha256)

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None, name: str | None = None
    ) -> tuple[list[Session], str | None]:
        """Up to `limit` sessions, oldest first, and the cursor of the next page if there is one.

        Args: name, to list only the sessions with exactly this name.
        """
        values: dict[str, object] = {"of_owner": owner, "after": int(cursor or 0), "limit": limit + 1}
        statement = queries.PAGE
        if name is not None:
            statement, values["name"] = queries.NAMED_PAGE, name
        found = await self._database.read(lambda c: queries.find_sessions(c, statement, **values))
        next_cursor = str([*found][limit - 1]) if len(found) > limit else None
        return [*found.values()][:limit], next_cursor

    async def load_examples(
        self, owner: str, session_id: str, *, enabled_only: bool = False
    ) -> tuple[Session, Sequence[Example]]:
        """A session and its examples, of all classes or of the enabled ones, at one moment, oldest first."""
        return await self._database.read(
            lambda c: queries.load_examples(c, owner, session_id, enabled_only=enabled_only)
        )

    async def load_for_export(
        self, owner: str, session_id: str
    ) -> tuple[Session, Sequence[Example], float | None]:
        """A session, its examples, and the time to live that was set last, in seconds, at one moment."""
        return await self._database.read(lambda c: queries.load_for_export(c, owner, session_id))

    async def check_ids(self, owner: str, session_id: str, ids: Sequence[str]) -> None:
        """Raises: ExampleExists if the session has an example with one of the ids, or one is there twice.

        add_examples checks the ids of its examples too: call this to also check those of unusable images.
        """
        await self._database.read(lambda c: queries.check_ids(c, owner, session_id, ids))

    async def get_class(self, owner: str, session_id: str, label: str) -> Class:
        """Raises: ClassNotFound."""

        def read(connection: sa.Connection) -> Class:
            number, session = queries.get_session(connection, owner, session_id)
            return queries.get_class(connection, number, session, label)

        return await self._database.read(read)

    async def update_class(self, owner: str, session_id: str, label: str, change: ClassChange) -> Class:
        """Rename a class, or enable or disable it. Raises: ClassNotFound; ClassExists; StoreFull."""
        changed = await self._database.write(
            lambda c: support_changes.update_class(c, owner, session_id, label, change)
        )
        await self._database.settle()
        return changed

    async def add_examples(
        self, owner: str, session_id: str, examples: Sequence[Example]
    ) -> tuple[Session, Sequence[str]]:
        """Add all examples but those whose image is already an example of the session, or add none.

        Returns the session, and the ids of the examples that were left out.

        Raises: ExampleExists; DuplicateImage if no example is left; ClassLimit; ExampleLimit; ByteLimit;
            StoreFull.
        """
        return await self._database.write(
            lambda c: support_changes.add_examples(c, owner, session_id, examples, self._quotas)
        )

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> tuple[Session, Sequence[str]]:
        """Replace all examples of a class with these. Returns and raises the same as add_examples."""
        replaced = await self._database.write(
            lambda c: support_changes.add_examples(
                c, owner, session_id, examples, self._quotas, replaced=label
            )
        )
        await self._database.settle()
        return replaced

    async def delete(self, owner: str, session_id: str) -> None:
        number = await self._database.erase(lambda c: changes.expire(c, owner, session_id))
        await self._delete_all(sessions.c.number == number)

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        """Raises: ClassNotFound."""
        await self._database.erase(lambda c: support_changes.delete_examples(c, owner, session_id, label))
        await self._database.settle()

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        """Deletes the class too if this is its last example. Raises: ClassNotFound; ExampleNotFound."""
        await self._database.erase(
            lambda c: support_changes.delete_examples(c, owner, session_id, label, example_id)
        )
        await self._database.settle()

    async def revisions(self, session_ids: Sequence[str]) -> dict[str, int]:
        """The revision of each of these sessions, of any owner, that exists and has not expired."""
        return await self._database.read(lambda c: queries.revisions(c, session_ids))

    async def count(self) -> int:
        """The number of sessions of all owners. Expired ones do not count."""
        return await self._database.read(queries.count)

    async def sweep(self) -> None:
        """Delete the expired sessions in small transactions, so that requests wait only briefly."""
        await self._delete_all(queries.EXPIRED)

    async def check(self) -> None:
        """Make sure that the store can be read and, if it was full, written. Raises: StoreFull."""
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()

    async def _delete_all(self, expired: sa.ColumnElement[bool]) -> None:
        while await self._database.erase(lambda c: changes.delete_part(c, expired)):
            pass
        await self._database.settle()
