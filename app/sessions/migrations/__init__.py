"""Alembic's migrations: one file for each change of the schema, applied when the service starts."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from app.sessions.errors import SchemaUnknown
from app.sessions.schema import lock

MIGRATIONS = Path(__file__).parent
_ALEMBIC = threading.Lock()
"""Alembic keeps the running migration in a global variable"""


def upgrade(connection: sa.Connection) -> None:
    """Upgrade the database to the schema of this release; other processes wait. Raises: SchemaUnknown."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    lock(connection, "schema")
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        with _ALEMBIC:
            command.upgrade(config, "head")
    except CommandError as error:
        raise SchemaUnknown(
            f"the database was made by a newer release: install that release ({error})"
        ) from None
