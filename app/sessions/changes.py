"""The store's writes to sessions as SQL. The caller opens the transaction that each function runs in."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from app.sessions.errors import SessionLimit, SessionNotFound
from app.sessions.queries import ALIVE, BY_NUMBER, OWNED, find_sessions
from app.sessions.quotas import Quotas, limit_bytes
from app.sessions.schema import Now, examples, lock, sessions
from app.sessions.support_changes import insert_examples, lock_session
from csrn_client.schemas import NewSession, Session, SessionChange
from model.support_set import Example

BATCH = 8
"""The most sessions and examples that one transaction deletes, so that requests wait only briefly"""
LONG_AGO = 0.5
"""The expiry time of deleted sessions. SQLite stores it in as many bytes as other times, in contrast to 0.0,
and so overwrites the row in place, which needs no free page of a full file"""
PROBE_BYTES = 2**18
"""Size of the test write that shows whether the disk has room"""


def create(
    connection: sa.Connection,
    owner: str,
    new: NewSession,
    weights_sha256: str,
    added: Sequence[Example],
    quotas: Quotas,
    *,
    disabled: Sequence[str] = (),
) -> Session:
    """Create a session with these examples. Raises: SessionLimit, and the errors of add_examples.

    Args: disabled, the labels of the classes that are not scored.
    """
    lock(connection, f"sessions of {owner}")
    own = sa.select(sa.func.count()).select_from(sessions).where(OWNED)
    if connection.scalars(own, {"of_owner": owner}).one() >= quotas.sessions:
        raise SessionLimit(f"a key has at most {quotas.sessions} sessions: delete some first")
    now = connection.scalars(sa.select(Now())).one()
    number = _insert(
        connection,
        owner=owner,
        name=new.name,
        created_at=now,
        expires_at=_expiry(now, new.ttl_s),
        ttl_s=new.ttl_s,
        weights_sha256=weights_sha256,
        metadata=json.dumps(new.metadata),
        disabled=json.dumps(sorted(set(disabled))),
    )
    session, _ = insert_examples(connection, owner, number, added, quotas)
    return session


def update(
    connection: sa.Connection, owner: str, session_id: str, change: SessionChange, quotas: Quotas
) -> Session:
    """The session with the settings that the change names. Raises: SessionNotFound; ByteLimit."""
    number, _ = lock_session(connection, owner, session_id)
    given, values = change.model_fields_set, dict[str, object]()
    if "name" in given:
        values["name"] = change.name
    if "ttl_s" in given:
        values["expires_at"] = _expiry(connection.scalars(sa.select(Now())).one(), change.ttl_s)
        values["ttl_s"] = change.ttl_s
    if "metadata" in given:
        values["metadata"] = text = json.dumps(change.metadata)
        values["bytes"] = sessions.c.bytes - sa.func.length(sessions.c.metadata) + len(text)
    if values:
        connection.execute(sa.update(sessions).where(sessions.c.number == number).values(values))
    if "metadata" in given:
        limit_bytes(connection, owner, quotas)
    return find_sessions(connection, BY_NUMBER, of_number=number)[number]


def expire(connection: sa.Connection, owner: str, session_id: str) -> int:
    """Let a session expire now. Returns its number. Raises: SessionNotFound."""
    own = sa.update(sessions).where(sessions.c.owner == owner, sessions.c.id == session_id, ALIVE)
    number: int | None = connection.scalar(own.values(expires_at=LONG_AGO).returning(sessions.c.number))
    if number is None:
        raise SessionNotFound
    return number


def delete_part(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    """Delete some examples of some sessions that meet the condition, and those sessions that have no more.

    The sessions must have expired, or clients would see parts of them. Returns False when none are left.
    """
    chosen = sa.select(sessions.c.number).where(condition).limit(BATCH).with_for_update(skip_locked=True)
    numbers = connection.scalars(chosen).all()
    some = sa.select(examples.c.number).where(examples.c.session.in_(numbers)).limit(BATCH)
    connection.execute(sa.delete(examples).where(examples.c.number.in_(some)))
    left = sa.exists().where(examples.c.session == sessions.c.number)
    connection.execute(sa.delete(sessions).where(sessions.c.number.in_(numbers), ~left))
    return bool(numbers)


def insert_probe(connection: sa.Connection) -> int:
    """Insert an expired session that nobody owns. Returns its number."""
    text = secrets.token_hex(PROBE_BYTES // 2)
    return _insert(
        connection, owner="", name=None, created_at=0.0, expires_at=0.0, weights_sha256="", metadata=text
    )


def _insert(connection: sa.Connection, **values: object) -> int:
    """The number of a new row without examples."""
    row = {"id": secrets.token_hex(16), "revision": 0, "bytes": len(str(values["metadata"])), **values}
    number: int = connection.scalars(sa.insert(sessions).returning(sessions.c.number), row).one()
    return number


def _expiry(now: float, ttl_s: float | None) -> float:
    return math.inf if ttl_s is None else now + ttl_s
