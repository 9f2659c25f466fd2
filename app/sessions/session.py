"""What a session is."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any


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
