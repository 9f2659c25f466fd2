"""The store's reads and writes as SQL. The caller opens the transaction that each function runs in."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from app.sessions.errors import (
    ByteLimit,
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    ExampleNotFound,
    SessionLimit,
    SessionNotFound,
)
from app.sessions.schema import Now, examples, lock, sessions
from csrn_client.schemas import ClassCount, NewSession, Session
from model.support_set import Example

BATCH = 8
"""The most sessions and examples that one transaction deletes, so that requests wait only briefly"""
IDS_AT_ONCE = 1000
"""Session ids in one statement: databases limit the number of its parameters"""
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


ALIVE = sessions.c.expires_at > Now()
EXPIRED = sessions.c.expires_at <= Now()
OWNED = sa.and_(sessions.c.owner == sa.bindparam("of_owner"), ALIVE)
# Constants, because building a statement takes longer than running it.
BY_ID = sa.select(sessions).where(OWNED, sessions.c.id == sa.bindparam("of_id"))
BY_NUMBER = sa.select(sessions).where(sessions.c.number == sa.bindparam("of_number"))
PAGE = (
    sa.select(sessions)
    .where(OWNED, sessions.c.number > sa.bindparam("after"))
    .order_by(sessions.c.number)
    .limit(sa.bindparam("limit"))
)
CLASSES = (
    sa.select(examples.c.session, examples.c.label, sa.func.count())
    .where(examples.c.session.in_(sa.bindparam("numbers", expanding=True)))
    .group_by(examples.c.session, examples.c.label)
    .order_by(sa.func.min(examples.c.number))
)


def find_sessions(
    connection: sa.Connection, statement: sa.Select[Any], **values: object
) -> dict[int, Session]:
    """The sessions that one of the statements above selects, by number, oldest first."""
    rows = connection.execute(statement, values).all()
    classes: dict[int, list[ClassCount]] = {row.number: [] for row in rows}
    for number, label, count in connection.execute(CLASSES, {"numbers": [*classes]}):
        classes[number].append(ClassCount(label=label, examples=count))
    return {
        row.number: Session(
            id=row.id,
            name=row.name,
            created_at=_time(row.created_at),
            expires_at=None if math.isinf(row.expires_at) else _time(row.expires_at),
            revision=row.revision,
            weights_sha256=row.weights_sha256,
            metadata=json.loads(row.metadata),
            classes=classes[row.number],
        )
        for row in rows
    }


def get_session(connection: sa.Connection, owner: str, session_id: str) -> tuple[int, Session]:
    """A session and its number. Raises: SessionNotFound."""
    for found in find_sessions(connection, BY_ID, of_owner=owner, of_id=session_id).items():
        return found
    raise SessionNotFound


def load_examples(
    connection: sa.Connection, owner: str, session_id: str
) -> tuple[Session, Sequence[Example]]:
    """A session and all its examples, oldest first. Raises: SessionNotFound."""
    number, session = get_session(connection, owner, session_id)
    rows = connection.execute(
        sa.select(examples).where(examples.c.session == number).order_by(examples.c.number)
    )
    return session, [
        Example(
            example_id=row.example_id,
            label=row.label,
            features=np.frombuffer(row.features, dtype="<f2"),
        )
        for row in rows
    ]


def example_ids(connection: sa.Connection, owner: str, session_id: str, label: str) -> Sequence[str]:
    """The example ids of a class, oldest first. Raises: SessionNotFound; ClassNotFound."""
    number, _ = get_session(connection, owner, session_id)
    return _ids_of_class(connection, number, label)


def revisions(connection: sa.Connection, session_ids: Sequence[str]) -> dict[str, int]:
    """The revision of each of these sessions that exists and has not expired."""
    found: dict[str, int] = {}
    for start in range(0, len(session_ids), IDS_AT_ONCE):
        ids = session_ids[start : start + IDS_AT_ONCE]
        chosen = sa.select(sessions.c.id, sessions.c.revision).where(sessions.c.id.in_(ids), ALIVE)
        found |= {row.id: row.revision for row in connection.execute(chosen)}
    return found


def count(connection: sa.Connection) -> int:
    """The number of sessions that have not expired."""
    return connection.scalars(sa.select(sa.func.count()).select_from(sessions).where(ALIVE)).one()


def create(
    connection: sa.Connection,
    owner: str,
    new: NewSession,
    weights_sha256: str,
    added: Sequence[Example],
    quotas: Quotas,
) -> Session:
    """A new session with these examples. Raises: SessionLimit; as add_examples."""
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
    connection: sa.Connection, owner: str, session_id: str, added: Sequence[Example], quotas: Quotas
) -> Session:
    """The session with the examples added.

    Raises: SessionNotFound; ExampleExists; ClassLimit; ExampleLimit; ByteLimit.
    """
    return _add(connection, owner, _lock(connection, owner, session_id), added, quotas)


def replace_class(
    connection: sa.Connection,
    owner: str,
    session_id: str,
    label: str,
    added: Sequence[Example],
    quotas: Quotas,
) -> Session:
    """The session with these examples instead of those of a class. Raises: as add_examples."""
    number = _lock(connection, owner, session_id)
    connection.execute(sa.delete(examples).where(examples.c.session == number, examples.c.label == label))
    return _add(connection, owner, number, added, quotas)


def delete_examples(
    connection: sa.Connection, owner: str, session_id: str, label: str, example_id: str | None = None
) -> None:
    """Delete one example of a class, or all. Raises: SessionNotFound; ClassNotFound; ExampleNotFound."""
    number = _lock(connection, owner, session_id)
    ids = _ids_of_class(connection, number, label)
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
            raise ExampleExists(f"the session already has an example with the id {example.example_id}")
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
    """Raise the revision of a session by one and sum its bytes up."""
    features = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(examples.c.features)), 0))
    of_session = features.where(examples.c.session == number).scalar_subquery()
    size = sa.func.length(sessions.c.metadata) + of_session
    connection.execute(
        sa.update(sessions)
        .where(sessions.c.number == number)
        .values(revision=sessions.c.revision + 1, bytes=size)
    )


def _ids_of_class(connection: sa.Connection, number: int, label: str) -> Sequence[str]:
    """Raises: ClassNotFound."""
    ids = connection.scalars(
        sa.select(examples.c.example_id)
        .where(examples.c.session == number, examples.c.label == label)
        .order_by(examples.c.number)
    ).all()
    if not ids:
        raise ClassNotFound
    return ids


def _time(timestamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
