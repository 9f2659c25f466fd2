"""Classes that are not scored, times to live that change, and digests of images."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("disabled", sa.Text, nullable=False, server_default="[]"))
    op.add_column("sessions", sa.Column("ttl_s", sa.Double))
    op.add_column("examples", sa.Column("image_sha256", sa.LargeBinary))
    op.create_index("examples_by_image", "examples", ["session", "image_sha256"], unique=True)
