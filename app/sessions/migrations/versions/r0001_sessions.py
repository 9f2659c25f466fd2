"""Sessions and their examples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revision", NUMBER, nullable=False),
        sa.Column("bytes", NUMBER, nullable=False),
        sa.Column("weights_sha256", sa.Text, nullable=False),
        sa.Column("metadata", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("sessions_by_owner", "sessions", ["owner", "number"])
    op.create_index("sessions_by_usage", "sessions", ["owner", "expires_at", "bytes"])
    op.create_index("sessions_by_expiry", "sessions", ["expires_at"])
    op.create_table(
        "examples",
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("session", NUMBER, sa.ForeignKey("sessions.number", ondelete="CASCADE"), nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("session", "example_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("examples_by_label", "examples", ["session", "label", "number"])
    if op.get_context().dialect.name == "postgresql":
        # Features do not get smaller by compression.
        op.execute("ALTER TABLE examples ALTER COLUMN features SET STORAGE EXTERNAL")
