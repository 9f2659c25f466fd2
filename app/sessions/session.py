"""What a session is, and why a call of the store may fail."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from model.errors import CsrnError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A session without its features."""

    id: str
    name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    revision: int
    """Raised by one with each change of the examples, so (id, revision) names one support set for ever"""
    weights_sha256: str
    metadata: dict[str, Any]
    classes: dict[str, int]
    """Label to number of examples, in the order of each class's oldest example"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewSession:
    """What the client decides when it creates a session."""

    name: str | None
    ttl_s: float | None
    weights_sha256: str
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quotas:
    """How much the store keeps at most."""

    sessions: int
    """Sessions of one owner; expired ones do not count"""
    bytes: int
    """Features and metadata of one owner's sessions; expired ones do not count"""
    classes: int
    """Classes of one session"""
    examples: int
    """Examples of one session"""


class SessionNotFound(Exception):
    """There is no such session, or it has expired, or it belongs to another owner."""


class ClassNotFound(Exception):
    """The session has no class of that label."""


class ExampleNotFound(Exception):
    """The class has no example of that id."""


class ExampleExists(Exception):
    """The session already has an example of that id; carries the id."""


class SessionLimit(Exception):
    """The owner already has the most sessions that one owner may have."""


class ByteLimit(Exception):
    """The write would give the owner more bytes than one owner may have."""


class ClassLimit(Exception):
    """The write would give the session more classes than it may have."""


class ExampleLimit(Exception):
    """The write would give the session more examples than it may have."""


class StoreUnavailable(CsrnError):
    """The database cannot be reached, or failed."""


class StoreFull(StoreUnavailable):
    """The disk or its quota has no room for the write. Reads and deletes still work."""


class SchemaUnknown(StoreUnavailable):
    """The database has tables that this release cannot use."""
