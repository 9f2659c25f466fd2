"""The store's reads as SQL. The caller opens the transaction that each function runs in."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from app.sessions.errors import ClassNotFound, ExampleExists, SessionNotFound
from app.sessions.schema import Now, examples, sessions
from csrn_client.field_rules import MAX_TTL_S
from csrn_client.schemas import Class, ClassCount, Session
from model.support_set import Example

IDS_AT_ONCE = 1000
"""Session ids in one statement: databases limit the number of its parameters"""
ALIVE = sessions.c.expires_at > Now()
EXPIRED = sessions.c.expires_at <= Now()
OWNED = sa.and_(sessions.c.owner == sa.bindparam("of_owner"), ALIVE)
# Constants, because building a statement takes longer than running it.
BY_ID = sa.select(sessions).where(OWNED, sessions.c.id == sa.bindparam("of_id"))
BY_NUMBER = sa.select(sessions).where(sessions.c.number == sa.bindparam("of_number"))
VERSION = sa.select(sessions.c.revision, sessions.c.weights_sha256).where(
    OWNED, sessions.c.id == sa.bindparam("of_id")
)
PAGE = (
    sa.select(sessions)
    .where(OWNED, sessions.c.number > sa.bindparam("after"))
    .order_by(sessions.c.number)
    .limit(sa.bindparam("limit"))
)
TTL_S = sa.select(sa.func.coalesce(sessions.c.ttl_s, sessions.c.expires_at - sessions.c.created_at)).where(
    sessions.c.id == sa.bindparam("of_id")
)
TAKEN = (
    sa.select(examples.c.example_id)
    .join(sessions)
    .where(OWNED, sessions.c.id == sa.bindparam("of_id"))
    .where(examples.c.example_id.in_(sa.bindparam("ids", expanding=True)))
)
NAMED_PAGE = PAGE.where(sessions.c.name == sa.bindparam("name"))
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
    disabled = {row.number: json.loads(row.disabled) for row in rows}
    for number, label, count in connection.execute(CLASSES, {"numbers": [*classes]}):
        enabled = label not in disabled[number]
        classes[number].append(ClassCount(label=label, examples=count, enabled=enabled))
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
    connection: sa.Connection, owner: str, session_id: str, *, enabled_only: bool
) -> tuple[Session, Sequence[Example]]:
    """A session and its examples, of all classes or of the enabled ones, oldest first.

    Raises: SessionNotFound.
    """
    number, session = get_session(connection, owner, session_id)
    chosen = sa.select(examples).where(examples.c.session == number).order_by(examples.c.number)
    if enabled_only:
        disabled = [known.label for known in session.classes if not known.enabled]
        chosen = chosen.where(examples.c.label.not_in(disabled))
    return session, [
        Example(
            example_id=row.example_id,
            label=row.label,
            features=np.frombuffer(row.features, dtype="<f2"),
            image_sha256=row.image_sha256,
        )
        for row in connection.execute(chosen)
    ]


def load_for_export(
    connection: sa.Connection, owner: str, session_id: str
) -> tuple[Session, Sequence[Example], float | None]:
    """A session, its examples, oldest first, and the time to live that was set last.

    Raises: SessionNotFound.
    """
    session, loaded = load_examples(connection, owner, session_id, enabled_only=False)
    ttl_s = connection.scalars(TTL_S, {"of_id": session_id}).one()
    # Rounding can make a difference of times a microsecond longer than allowed.
    return session, loaded, None if math.isinf(ttl_s) else min(ttl_s, MAX_TTL_S)


def check_ids(connection: sa.Connection, owner: str, session_id: str, ids: Sequence[str]) -> None:
    """Raises: ExampleExists if the session has an example with one of the ids, or one is there twice."""
    refuse_taken(ids, connection.scalars(TAKEN, {"of_owner": owner, "of_id": session_id, "ids": ids}))


def refuse_taken(ids: Sequence[str], taken: Iterable[str]) -> None:
    """Raises: ExampleExists if one of the ids is taken, or is there twice."""
    known = {*taken}
    for example_id in ids:
        if example_id in known:
            raise ExampleExists(f"the example id {example_id} is taken: ids are unique in a session")
        known.add(example_id)


def get_class(connection: sa.Connection, number: int, session: Session, label: str) -> Class:
    """A class of a session. Raises: ClassNotFound."""
    for known in session.classes:
        if known.label == label:
            ids = example_ids(connection, number, label)
            return Class(label=label, examples=len(ids), enabled=known.enabled, example_ids=[*ids])
    raise ClassNotFound


def example_ids(connection: sa.Connection, number: int, label: str) -> Sequence[str]:
    """The example ids of a class of a session, oldest first. Raises: ClassNotFound."""
    ids = connection.scalars(
        sa.select(examples.c.example_id)
        .where(examples.c.session == number, examples.c.label == label)
        .order_by(examples.c.number)
    ).all()
    if not ids:
        raise ClassNotFound
    return ids


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


def _time(timestamp: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(timestamp, datetime.UTC)
