"""The store's writes to classes and examples as SQL. The caller opens the transaction of each function."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from app.sessions.errors import (
    ClassExists,
    ClassLimit,
    DuplicateImage,
    ExampleLimit,
    ExampleNotFound,
    SessionNotFound,
)
from app.sessions.queries import BY_NUMBER, OWNED, example_ids, find_sessions, get_class, refuse_taken
from app.sessions.quotas import Quotas, limit_bytes
from app.sessions.schema import examples, lock, sessions
from csrn_client.schemas import Class, ClassChange, Session
from model.support_set import Example


def add_examples(
    connection: sa.Connection,
    owner: str,
    session_id: str,
    added: Sequence[Example],
    quotas: Quotas,
    *,
    replaced: str | None = None,
) -> tuple[Session, Sequence[str]]:
    """Add examples to a session, instead of those of the class `replaced` if it is given.

    Returns the session, and the ids of the examples that were left out because their image is already one.

    Raises: SessionNotFound; ExampleExists; DuplicateImage if no example is left; ClassLimit; ExampleLimit;
        ByteLimit.
    """
    number, _ = lock_session(connection, owner, session_id)
    if replaced is not None:
        of_class = (examples.c.session == number, examples.c.label == replaced)
        connection.execute(sa.delete(examples).where(*of_class))
    return insert_examples(connection, owner, number, added, quotas)


def update_class(
    connection: sa.Connection, owner: str, session_id: str, label: str, change: ClassChange
) -> Class:
    """The class with its new label, enabled or disabled.

    Raises: SessionNotFound; ClassNotFound; ClassExists.
    """
    number, disabled = lock_session(connection, owner, session_id)
    session = find_sessions(connection, BY_NUMBER, of_number=number)[number]
    known = get_class(connection, number, session, label)
    changed = known.model_copy(update=change.model_dump(exclude_none=True))
    if changed == known:
        return known
    if changed.label != label:
        if any(other.label == changed.label for other in session.classes):
            raise ClassExists
        of_class = (examples.c.session == number, examples.c.label == label)
        connection.execute(sa.update(examples).where(*of_class).values(label=changed.label))
    _disable(connection, number, disabled - {label} | (set() if changed.enabled else {changed.label}))
    _count_change(connection, number)
    return changed


def delete_examples(
    connection: sa.Connection, owner: str, session_id: str, label: str, example_id: str | None = None
) -> None:
    """Delete one example of a class, or all. Raises: SessionNotFound; ClassNotFound; ExampleNotFound."""
    number, disabled = lock_session(connection, owner, session_id)
    ids = example_ids(connection, number, label)
    if example_id is not None and example_id not in ids:
        raise ExampleNotFound
    chosen = examples.c.label == label if example_id is None else examples.c.example_id == example_id
    connection.execute(sa.delete(examples).where(examples.c.session == number, chosen))
    if label in disabled and (example_id is None or len(ids) == 1):
        _disable(connection, number, disabled - {label})
    _count_change(connection, number)


def lock_session(connection: sa.Connection, owner: str, session_id: str) -> tuple[int, set[str]]:
    """The number and the disabled classes of a session. Its owner's other writes wait for this transaction.

    Raises: SessionNotFound.
    """
    lock(connection, f"sessions of {owner}")
    own = sa.select(sessions.c.number, sessions.c.disabled).where(OWNED, sessions.c.id == session_id)
    row = connection.execute(own.with_for_update(), {"of_owner": owner}).one_or_none()
    if row is None:
        raise SessionNotFound
    return row.number, set(json.loads(row.disabled))


def insert_examples(
    connection: sa.Connection, owner: str, number: int, added: Sequence[Example], quotas: Quotas
) -> tuple[Session, Sequence[str]]:
    """Add examples to a session that is locked. Returns and raises the same as add_examples."""
    held = connection.execute(
        sa.select(examples.c.label, examples.c.example_id).where(examples.c.session == number)
    ).all()
    labels = {row.label for row in held}
    refuse_taken([example.example_id for example in added], (row.example_id for row in held))
    kept = _without_duplicates(connection, number, added)
    if added and not kept:
        raise DuplicateImage
    if len(labels | {example.label for example in kept}) > quotas.classes:
        raise ClassLimit(f"a session has at most {quotas.classes} classes: nothing was changed")
    if len(held) + len(kept) > quotas.examples:
        raise ExampleLimit(f"a session has at most {quotas.examples} examples: nothing was changed")
    if kept:
        rows = [
            {
                "session": number,
                "label": example.label,
                "example_id": example.example_id,
                "features": example.features.astype("<f2", copy=False).tobytes(),
                "image_sha256": example.image_sha256,
            }
            for example in kept
        ]
        connection.execute(sa.insert(examples), rows)
        _count_change(connection, number)
    limit_bytes(connection, owner, quotas)
    left_out = {example.example_id for example in added} - {example.example_id for example in kept}
    return find_sessions(connection, BY_NUMBER, of_number=number)[number], [*left_out]


def _without_duplicates(
    connection: sa.Connection, number: int, added: Sequence[Example]
) -> Sequence[Example]:
    """Those of the examples whose image the session does not have and that is not earlier among them."""
    digests = {example.image_sha256 for example in added} - {None}
    held = sa.select(examples.c.image_sha256).where(examples.c.session == number)
    seen = set(connection.scalars(held.where(examples.c.image_sha256.in_(digests)))) if digests else set()
    kept = []
    for example in added:
        if example.image_sha256 not in seen:
            kept.append(example)
            seen |= {example.image_sha256} - {None}
    return kept


def _disable(connection: sa.Connection, number: int, labels: set[str]) -> None:
    """Let these be the disabled classes of a session."""
    chosen = sa.update(sessions).where(sessions.c.number == number)
    connection.execute(chosen.values(disabled=json.dumps(sorted(labels))))


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
