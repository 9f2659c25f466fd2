"""How a session lies in Redis: its keys, and its record with all but the features."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import pydantic

from app.sessions.features import features_to_bytes
from app.sessions.store import (
    ClassLimit,
    ClassNotFound,
    ExampleExists,
    ExampleLimit,
    Quotas,
    Session,
    SessionNotFound,
)
from model.support_set import Example

RECORD, REVISION = "record", "revision"
LAST_SESSION = "csrn:last-session"
"""Key of the count of sessions, by which they are listed in order of creation"""
ALL_SESSIONS = "csrn:sessions"
"""Key of the sorted set of all session ids by the second in which they expire, or infinity"""
Pipeline = Any
"""redis.asyncio.client.Pipeline, whose annotations unite what every kind of client may answer"""


def record_key(session_id: str) -> str:
    """Hash of RECORD, the JSON of a SessionRecord, and REVISION, for who needs no more."""
    return f"csrn:session:{session_id}"


def features_key(session_id: str) -> str:
    """Hash of each example's features by its id."""
    return f"csrn:features:{session_id}"


def owner_key(owner: str) -> str:
    """Sorted set of an owner's session ids by number."""
    return f"csrn:owner:{owner}"


def expiries_key(owner: str) -> str:
    """Sorted set of an owner's session ids by the second in which they expire, if they do."""
    return f"csrn:expiries:{owner}"


class SessionRecord(pydantic.BaseModel):
    """All of a session but the features."""

    id: str
    number: int
    owner: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int = 0
    weights_sha256: str
    metadata: dict[str, Any]
    examples: list[tuple[str, str]] = []
    """Label and id of each, oldest first"""

    def session(self) -> Session:
        classes: dict[str, int] = {}
        for label, _ in self.examples:
            classes[label] = classes.get(label, 0) + 1
        return Session(
            **self.model_dump(exclude={"number", "owner", "examples"}),
            classes=classes,
        )

    def ids_of(self, label: str) -> list[str]:
        ids = [example_id for of, example_id in self.examples if of == label]
        if not ids:
            raise ClassNotFound
        return ids

    def add(self, examples: Sequence[Example], quotas: Quotas) -> None:
        taken = {example_id for _, example_id in self.examples}
        for example in examples:
            if example.example_id in taken:
                raise ExampleExists(example.example_id)
            taken.add(example.example_id)
            self.examples.append((example.label, example.example_id))
        if len({label for label, _ in self.examples}) > quotas.classes:
            raise ClassLimit
        if len(self.examples) > quotas.examples:
            raise ExampleLimit

    def remove(self, example_ids: Sequence[str]) -> None:
        self.examples = [example for example in self.examples if example[1] not in example_ids]


def owned(data: bytes | None, owner: str) -> SessionRecord:
    """The record that was read. Raises: SessionNotFound if there is none, or it is another owner's."""
    record = None if data is None else SessionRecord.model_validate_json(data)
    if record is None or record.owner != owner:
        raise SessionNotFound
    return record


def put(pipe: Pipeline, record: SessionRecord, *, added: Sequence[Example]) -> None:
    """Queue the commands that write a record and the features that it did not have before."""
    pipe.hset(record_key(record.id), mapping={RECORD: record.model_dump_json(), REVISION: record.revision})
    if added:
        features = {example.example_id: features_to_bytes(example.features) for example in added}
        pipe.hset(features_key(record.id), mapping=features)
    if record.expires_at is not None:
        for key in (record_key(record.id), features_key(record.id)):
            pipe.pexpireat(key, record.expires_at)
