"""The store's reads and writes as SQL, each on a connection with an open transaction."""

from __future__ import annotations

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
    SessionLimit,
    SessionNotFound,
)
from app.sessions.schema import Now, examples, sessions
from app.sessions.session import NewSession, Quotas, Session
from model.support_set import Example

BATCH_EXAMPLES = 16
"""Examples of expired or deleted sessions that one transaction deletes: 0.4 MB with the default weights"""
BATCH_SESSIONS = 256
"""Sessions without examples that one transaction deletes"""
ALIVE = sessions.c.expires_at > Now()
EXPIRED = sessions.c.expires_at <= Now()


# Built once, because building a statement takes longer than running it.
BY_ID = sa.select(sessions).where(
    sessions.c.id == sa.bindparam("id"), sessions.c.owner == sa.bindparam("owner"), ALIVE
)
BY_NUMBER = sa.select(sessions).where(sessions.c.number == sa.bindparam("number"))
PAGE = (
    sa.select(sessions)
    .where(sessions.c.owner == sa.bindparam("owner"), sessions.c.number > sa.bindparam("after"), ALIVE)
    .order_by(sessions.c.number)
    .limit(sa.bindparam("limit"))
)
CLASSES = (
    sa.select(examples.c.session, examples.c.label, sa.func.count())
    .where(examples.c.session.in_(sa.bindparam("numbers", expanding=True)))
    .group_by(examples.c.session, examples.c.label)
    .order_by(sa.func.min(examples.c.number))
)


def read_sessions(
    connection: sa.Connection, statement: sa.Select[Any], parameters: dict[str, object]
) -> dict[int, Session]:
    """The sessions that a statement of this module finds, by number, oldest first."""
    rows = connection.execute(statement, parameters).all()
    classes: dict[int, dict[str, int]] = {row.number: {} for row in rows}
    for number, label, count in connection.execute(CLASSES, {"numbers": [*classes]}):
        classes[number][label] = count
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


def find_session(connection: sa.Connection, owner: str, session_id: str) -> tuple[int, Session]:
    """A session and its number. Raises: SessionNotFound."""
    found = read_sessions(connection, BY_ID, {"id": session_id, "owner": owner})
    if not found:
        raise SessionNotFound
    return next(iter(found.items()))


def lock_session(connection: sa.Connection, owner: str, session_id: str) -> int:
    """The number of a session, which no other transaction changes until this one ends.

    Raises: SessionNotFound.
    """
    number: int | None = connection.scalar(
        sa.select(sessions.c.number)
        .where(sessions.c.id == session_id, sessions.c.owner == owner, ALIVE)
        .with_for_update()
    )
    if number is None:
        raise SessionNotFound
    return number


def create_session(connection: sa.Connection, owner: str, new: NewSession, quotas: Quotas) -> int:
    """The number of a new, empty session. Raises: SessionLimit; ByteLimit."""
    metadata = json.dumps(new.metadata)
    now: float = connection.scalars(sa.select(Now())).one()
    number: int = connection.scalars(
        sa.insert(sessions).returning(sessions.c.number),
        {
            "id": secrets.token_hex(16),
            "owner": owner,
            "name": new.name,
            "created_at": now,
            "expires_at": math.inf if new.ttl_s is None else now + new.ttl_s,
            "revision": 0,
            "bytes": len(metadata),
            "weights_sha256": new.weights_sha256,
            "metadata": metadata,
        },
    ).one()
    _require_within_quotas(connection, owner, quotas)
    return number


def add_examples(
    connection: sa.Connection, owner: str, number: int, added: Sequence[Example], quotas: Quotas
) -> Session:
    """The session with the examples added. Raises: ExampleExists; ClassLimit; ExampleLimit; ByteLimit."""
    held = connection.execute(
        sa.select(examples.c.label, examples.c.example_id).where(examples.c.session == number)
    ).all()
    labels, ids = {row.label for row in held}, {row.example_id for row in held}
    for example in added:
        if example.example_id in ids:
            raise ExampleExists(
                f"the example id {example.example_id} is taken: example ids are unique within a session"
            )
        labels.add(example.label)
        ids.add(example.example_id)
    if len(labels) > quotas.classes:
        raise ClassLimit(f"a session has at most {quotas.classes} classes: nothing was changed")
    if len(ids) > quotas.examples:
        raise ExampleLimit(f"a session has at most {quotas.examples} examples: nothing was changed")
    rows = [
        {
            "session": number,
            "label": example.label,
            "example_id": example.example_id,
            "features": example.features.astype("<f2", copy=False).tobytes(),
        }
        for example in added
    ]
    if rows:
        connection.execute(sa.insert(examples), rows)
    raise_revision(connection, number)
    _require_within_quotas(connection, owner, quotas)
    return read_sessions(connection, BY_NUMBER, {"number": number})[number]


def load_examples(connection: sa.Connection, number: int) -> list[Example]:
    """All examples of a session, oldest first."""
    rows = connection.execute(
        sa.select(examples.c.example_id, examples.c.label, examples.c.features)
        .where(examples.c.session == number)
        .order_by(examples.c.number)
    )
    return [
        Example(
            example_id=row.example_id,
            label=row.label,
            features=np.frombuffer(bytearray(row.features), dtype="<f2"),
        )
        for row in rows
    ]


def example_ids(connection: sa.Connection, number: int, label: str) -> Sequence[str]:
    """Example ids of a class, oldest first. Raises: ClassNotFound."""
    ids = connection.scalars(
        sa.select(examples.c.example_id)
        .where(examples.c.session == number, examples.c.label == label)
        .order_by(examples.c.number)
    ).all()
    if not ids:
        raise ClassNotFound
    return ids


def delete_examples(connection: sa.Connection, number: int, condition: sa.ColumnElement[bool]) -> None:
    """Delete those examples of a session that meet the condition."""
    connection.execute(sa.delete(examples).where(examples.c.session == number, condition))


def raise_revision(connection: sa.Connection, number: int) -> None:
    """Count a change of a session's examples, and the bytes that it has now."""
    features = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(examples.c.features)), 0))
    of_session = features.where(examples.c.session == number).scalar_subquery()
    connection.execute(
        sa.update(sessions)
        .where(sessions.c.number == number)
        .values(
            revision=sessions.c.revision + 1,
            bytes=sa.func.length(sessions.c.metadata) + of_session,
        )
    )


def delete_part(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> bool:
    """Delete a small part of the sessions that meet the condition; true if some may be left.

    A session that is deleted in parts expires with the first one, so no client ever sees a part of it.
    """
    chosen = (
        sa.select(examples.c.number)
        .join(sessions)
        .where(condition)
        .limit(BATCH_EXAMPLES)
        .with_for_update(of=examples, skip_locked=True)
    )
    deleted = connection.execute(sa.delete(examples).where(examples.c.number.in_(chosen))).rowcount
    if deleted == BATCH_EXAMPLES:
        connection.execute(sa.update(sessions).where(condition, ALIVE).values(expires_at=0.0))
        return True
    empty = (
        sa.select(sessions.c.number)
        .where(condition, ~sa.exists().where(examples.c.session == sessions.c.number))
        .limit(BATCH_SESSIONS)
        .with_for_update(skip_locked=True)
    )
    deleted = connection.execute(sa.delete(sessions).where(sessions.c.number.in_(empty))).rowcount
    return deleted == BATCH_SESSIONS


def _require_within_quotas(connection: sa.Connection, owner: str, quotas: Quotas) -> None:
    """Raises: SessionLimit; ByteLimit."""
    count, size = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sessions.c.bytes), 0)).where(
            sessions.c.owner == owner, ALIVE
        )
    ).one()
    if count > quotas.sessions:
        raise SessionLimit(f"a key has at most {quotas.sessions} sessions: delete some first")
    if size > quotas.bytes:
        raise ByteLimit(f"the sessions of a key hold at most {quotas.bytes} bytes: nothing was changed")


def _time(timestamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
