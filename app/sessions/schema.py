"""The tables of the store and what SQLite and PostgreSQL spell differently. Migrations create the tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = sa.MetaData()
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite generates primary keys only for the type INTEGER"""

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("number", NUMBER, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("name", sa.Text),
    # Seconds since 1970. A session without a time to live expires at infinity.
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    # The time to live that was set last. Null if there is none, and in sessions that older releases made
    sa.Column("ttl_s", sa.Double),
    sa.Column("revision", NUMBER, nullable=False),
    sa.Column("bytes", NUMBER, nullable=False),
    sa.Column("weights_sha256", sa.Text, nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    # JSON: the labels of the classes that are not scored
    sa.Column("disabled", sa.Text, nullable=False, server_default="[]"),
    sa.Index("sessions_by_owner", "owner", "number"),
    sa.Index("sessions_by_usage", "owner", "expires_at", "bytes"),
    sa.Index("sessions_by_expiry", "expires_at"),
    sqlite_autoincrement=True,
)

examples = sa.Table(
    "examples",
    metadata,
    sa.Column("number", NUMBER, primary_key=True),
    sa.Column("session", NUMBER, sa.ForeignKey("sessions.number", ondelete="CASCADE"), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("example_id", sa.Text, nullable=False),
    # float16, little-endian
    sa.Column("features", sa.LargeBinary, nullable=False),
    # Null in examples that older releases or imports of their files made
    sa.Column("image_sha256", sa.LargeBinary),
    sa.UniqueConstraint("session", "example_id"),
    sa.Index("examples_by_label", "session", "label", "number"),
    sa.Index("examples_by_image", "session", "image_sha256", unique=True),
    sqlite_autoincrement=True,
)


class Now(FunctionElement[float]):
    """Seconds since 1970 by the database's clock, which all replicas share."""

    type = sa.Double()
    inherit_cache = True


@compiles(Now, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


def lock(connection: sa.Connection, name: str) -> None:
    """Wait for the lock of this name and hold it until the transaction ends.

    SQLite needs no locks with names: a transaction that writes locks the whole file.
    """
    if connection.dialect.name == "postgresql":
        key = sa.func.hashtextextended(name, 0)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
