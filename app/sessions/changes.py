"""The store's writes as SQL. The caller opens the transaction that each function runs in."""

from __future__ import annotations

import dataclasses
import json
import math
import secrets
from collections.abc import Sequence

import sqlalchemy as sa

from app.sessions.errors import (
    ByteLimit,
    ClassLimit,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.queries import ALIVE, BY_NUMBER, OWNED, example_ids, find_sessions
from app.sessions.schema import Now, examples, lock, sessions
from csrn_client.schemas import NewSession, Session
from model.support_set import Example

BATCH = 8
"""The most sessions and examples that one transaction deletes, so that requests wait only briefly"""
PROBE_BYTES = 2**18
"""Size of the test write that shows whether the disk has room"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quotas:
    """The most that the store keeps. Expired sessions do not count."""

    sessions: int
    """Sessions of one owner"""
    bytes: int
    """Features and metadata of all sessions of one owner"""
    classes: int
    """Classes of one session"""
    examples: int
    """Examples of one session"""


def create(
    connection: sa.Connection,
    owner: str,
    new: NewSession,
    weights_sha256: str,
    added: Sequence[Example],
    quotas: Quotas,
) -> Session:
    """Create a session with these examples. Raises: SessionLimit, and the errors of add_examples."""
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
        expires_at=math.inf if new.ttl_s is None else now + new.ttl_s,
        weights_sha256=weights_sha256,
        metadata=json.dumps(new.metadata),
    )
    return _add(connection, owner, number, added, quotas)


def add_examples(
    connection: sa.Connection,
    owner: str,
    session_id: str,
    added: Sequence[Example],
    quotas: Quotas,
    *,
    replaced: str | None = None,
) -> Session:
    """The session with the examples added, instead of those of the class `replaced` if it is given.

    Raises: SessionNotFound; ExampleExists; ClassLimit; ExampleLimit; ByteLimit.
    """
    number = _lock(connection, owner, session_id)
    if replaced is not None:
        of_class = (examples.c.session == number, examples.c.label == replaced)
        connection.execute(sa.delete(examples).where(*of_class))
    return _add(connection, owner, number, added, quotas)


def delete_examples(
    connection: sa.Connection, owner: str, session_id: str, label: str, example_id: str | None = None
) -> None:
    """Delete one example of a class, or all. Raises: SessionNotFound; ClassNotFound; ExampleNotFound."""
    number = _lock(connection, owner, session_id)
    ids = example_ids(connection, number, label)
    if example_id is not None and example_id not in ids:
        raise ExampleNotFound
    chosen = examples.c.label == label if example_id is None else examples.c.example_id == example_id
    connection.execute(sa.delete(examples).where(examples.c.session == number, chosen))
    _count_change(connection, number)


def expire(connection: sa.Connection, owner: str, session_id: str) -> int:
    """Let a session expire now. Returns its number. Raises: SessionNotFound."""
    own = sa.update(sessions).where(sessions.c.owner == owner, sessions.c.id == session_id, ALIVE)
    number: int | None = connection.scalar(own.values(expires_at=0.0).returning(sessions.c.number))
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


def _lock(connection: sa.Connection, owner: str, session_id: str) -> int:
    """The number of a session whose owner's other writes wait until the transaction ends.

    Raises: SessionNotFound.
    """
    lock(connection, f"sessions of {owner}")
    own = sa.select(sessions.c.number).where(OWNED, sessions.c.id == session_id).with_for_update()
    number: int | None = connection.scalar(own, {"of_owner": owner})
    if number is None:
        raise SessionNotFound
    return number


def _add(
    connection: sa.Connection, owner: str, number: int, added: Sequence[Example], quotas: Quotas
) -> Session:
    """Raises: ExampleExists; ClassLimit; ExampleLimit; ByteLimit."""
    held = connection.execute(
        sa.select(examples.c.label, examples.c.example_id).where(examples.c.session == number)
    ).all()
    labels, ids = {row.label for row in held}, {row.example_id for row in held}
    for example in added:
        if example.example_id in ids:
            raise ExampleExists(f"the example id {example.example_id} is taken: ids are unique in a session")
        labels.add(example.label)
        ids.add(example.example_id)
    if len(labels) > quotas.classes:
        raise ClassLimit(f"a session has at most {quotas.classes} classes: nothing was changed")
    if len(ids) > quotas.examples:
        raise ExampleLimit(f"a session has at most {quotas.examples} examples: nothing was changed")
    if added:
        rows = [
            {
                "session": number,
                "label": example.label,
                "example_id": example.example_id,
                "features": example.features.astype("<f2", copy=False).tobytes(),
            }
            for example in added
        ]
        connection.execute(sa.insert(examples), rows)
        _count_change(connection, number)
    size = sa.select(sa.func.coalesce(sa.func.sum(sessions.c.bytes), 0)).where(OWNED)
    if connection.scalars(size, {"of_owner": owner}).one() > quotas.bytes:
        raise ByteLimit(f"the sessions of a key hold at most {quotas.bytes} bytes: nothing was changed")
    return find_sessions(connection, BY_NUMBER, of_number=number)[number]


def _count_change(connection: sa.Connection, number: int) -> None:
    """Raise the revision of a session by one and compute its size in bytes again."""
    features = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(examples.c.features)), 0))
    of_session = features.where(examples.c.session == number).scalar_subquery()
    size = sa.func.length(sessions.c.metadata) + of_session
    connection.execute(
        sa.update(sessions)
        .where(sessions.c.number == number)
        .values(revision=sessions.c.revision + 1, bytes=size)
    )
