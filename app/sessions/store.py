"""The session store. It holds features, never images.

A write is one transaction: when the call returns, the write is complete and durable; when it raises, nothing
has changed. Only if it raises StoreUnavailable, other than StoreFull, the write may have been made, and then
completely. A session belongs to its owner (an API key); for any other owner it does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import sqlalchemy as sa

from app.sessions import queries
from app.sessions.database import Database
from app.sessions.errors import ExampleNotFound
from app.sessions.postgresql import PostgresqlDatabase
from app.sessions.schema import examples as example_table
from app.sessions.schema import sessions as session_table
from app.sessions.session import NewSession, Quotas, Session
from app.sessions.sqlite import SqliteDatabase
from model.support_set import Example

IDS_AT_ONCE = 1000
"""In one statement, whose number of values is limited"""


def open_store(address: str, *, quotas: Quotas) -> SessionStore:
    """The store at sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DB.

    A PostgreSQL that cannot be reached yet is no error. Raises: StoreUnavailable; SchemaUnknown.
    """
    path = address.removeprefix("sqlite:///")
    database = PostgresqlDatabase(address) if path == address else SqliteDatabase(Path(path))
    return SessionStore(database, quotas=quotas)


class SessionStore:
    """Every call may raise StoreUnavailable; those that name a session, SessionNotFound."""

    def __init__(self, database: Database, *, quotas: Quotas) -> None:
        self._database, self._quotas = database, quotas

    async def create(self, owner: str, new: NewSession, examples: Sequence[Example] = ()) -> Session:
        """A new session with these examples. Raises: SessionLimit; as add_examples."""

        def create(connection: sa.Connection) -> Session:
            self._database.lock_owner(connection, owner)
            number = queries.create_session(connection, owner, new, self._quotas)
            if examples:
                return queries.add_examples(connection, owner, number, examples, self._quotas)
            return queries.read_sessions(connection, queries.BY_NUMBER, {"number": number})[number]

        return await self._database.write(create)

    async def get(self, owner: str, session_id: str) -> Session:
        _, session = await self._database.read(lambda c: queries.find_session(c, owner, session_id))
        return session

    async def list_page(
        self, owner: str, *, limit: int, cursor: str | None
    ) -> tuple[list[Session], str | None]:
        """Up to `limit` sessions, oldest first, and the cursor of the next page if there is one."""
        page = {"owner": owner, "after": int(cursor or 0), "limit": limit + 1}
        found = await self._database.read(lambda c: queries.read_sessions(c, queries.PAGE, page))
        next_cursor = str([*found][limit - 1]) if len(found) > limit else None
        return [*found.values()][:limit], next_cursor

    async def load_examples(self, owner: str, session_id: str) -> tuple[Session, Sequence[Example]]:
        """A session with all its examples, as of one moment."""

        def load(connection: sa.Connection) -> tuple[Session, Sequence[Example]]:
            number, session = queries.find_session(connection, owner, session_id)
            return session, queries.load_examples(connection, number)

        return await self._database.read(load)

    async def example_ids(self, owner: str, session_id: str, label: str) -> Sequence[str]:
        """Example ids of a class, oldest first. Raises: ClassNotFound."""

        def read(connection: sa.Connection) -> Sequence[str]:
            number, _ = queries.find_session(connection, owner, session_id)
            return queries.example_ids(connection, number, label)

        return await self._database.read(read)

    async def add_examples(self, owner: str, session_id: str, examples: Sequence[Example]) -> Session:
        """Add all examples, or none.

        Raises: ExampleExists; ClassLimit; ExampleLimit; ByteLimit; StoreFull.
        """

        def add(connection: sa.Connection) -> Session:
            number = self._lock(connection, owner, session_id)
            return queries.add_examples(connection, owner, number, examples, self._quotas)

        return await self._database.write(add)

    async def replace_class(
        self, owner: str, session_id: str, label: str, examples: Sequence[Example]
    ) -> Session:
        """Put `examples` in place of all that the class had. Raises: as add_examples."""

        def replace(connection: sa.Connection) -> Session:
            number = self._lock(connection, owner, session_id)
            queries.delete_examples(connection, number, example_table.c.label == label)
            return queries.add_examples(connection, owner, number, examples, self._quotas)

        replaced = await self._database.write(replace)
        await self._database.settle()
        return replaced

    async def delete(self, owner: str, session_id: str) -> None:
        number: int | None = None

        def delete(connection: sa.Connection) -> bool:
            nonlocal number
            if number is None:
                number = queries.lock_session(connection, owner, session_id)
            return queries.delete_part(connection, session_table.c.number == number)

        while await self._database.erase(delete):
            pass

    async def delete_class(self, owner: str, session_id: str, label: str) -> None:
        """Raises: ClassNotFound."""

        def delete(connection: sa.Connection) -> None:
            number = self._lock(connection, owner, session_id)
            queries.example_ids(connection, number, label)
            queries.delete_examples(connection, number, example_table.c.label == label)
            queries.raise_revision(connection, number)

        await self._database.erase(delete)

    async def delete_example(self, owner: str, session_id: str, label: str, example_id: str) -> None:
        """With its last example a class is gone. Raises: ClassNotFound; ExampleNotFound."""

        def delete(connection: sa.Connection) -> None:
            number = self._lock(connection, owner, session_id)
            if example_id not in queries.example_ids(connection, number, label):
                raise ExampleNotFound
            queries.delete_examples(connection, number, example_table.c.example_id == example_id)
            queries.raise_revision(connection, number)

        await self._database.erase(delete)

    async def revisions(self, session_ids: Iterable[str]) -> dict[str, int]:
        """The revision of each of these sessions, of any owner, that exists and has not expired."""
        ids = [*session_ids]
        chosen = sa.select(session_table.c.id, session_table.c.revision).where(
            session_table.c.id.in_(sa.bindparam("ids", expanding=True)), queries.ALIVE
        )

        def read(connection: sa.Connection) -> dict[str, int]:
            parts = (ids[start : start + IDS_AT_ONCE] for start in range(0, len(ids), IDS_AT_ONCE))
            rows = (connection.execute(chosen, {"ids": part}) for part in parts)
            return {row.id: row.revision for part in rows for row in part}

        return await self._database.read(read)

    async def count(self) -> int:
        """How many sessions all owners have together; expired ones do not count."""
        counted = sa.select(sa.func.count()).select_from(session_table).where(queries.ALIVE)
        return await self._database.read(lambda c: c.scalars(counted).one())

    async def sweep(self) -> None:
        """Delete expired sessions, in small transactions, and give their room back to the disk."""
        while await self._database.erase(lambda c: queries.delete_part(c, queries.EXPIRED)):
            pass
        await self._database.tidy()

    async def check(self) -> None:
        """Returns if the store can read and write. Raises: StoreFull."""
        await self._database.check()

    async def close(self) -> None:
        await self._database.close()

    def _lock(self, connection: sa.Connection, owner: str, session_id: str) -> int:
        """The number of a session of an owner whose other writes wait until this one is done."""
        self._database.lock_owner(connection, owner)
        return queries.lock_session(connection, owner, session_id)
