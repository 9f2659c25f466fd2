"""How much the store keeps for each owner and session."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from app.sessions.errors import ByteLimit
from app.sessions.queries import OWNED
from app.sessions.schema import sessions


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


def limit_bytes(connection: sa.Connection, owner: str, quotas: Quotas) -> None:
    """Raises: ByteLimit if the sessions of the owner are too large now."""
    size = sa.select(sa.func.coalesce(sa.func.sum(sessions.c.bytes), 0)).where(OWNED)
    if connection.scalars(size, {"of_owner": owner}).one() > quotas.bytes:
        raise ByteLimit(f"the sessions of a key hold at most {quotas.bytes} bytes: nothing was changed")
