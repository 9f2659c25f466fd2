"""Alembic's migrations: one file for each change of the schema, applied when the service starts."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from app.sessions.errors import SchemaUnknown

MIGRATIONS = Path(__file__).parent
_ALEMBIC = threading.Lock()
"""Alembic keeps the running migration in a global variable"""


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the database to a revision of the schema, by default the newest.

    The caller holds a lock that keeps other processes from doing the same. Raises: SchemaUnknown.
    """
    with _ALEMBIC:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        _require_known_schema(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, revision)


def _require_known_schema(connection: sa.Connection, migrations: ScriptDirectory) -> None:
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        if sa.inspect(connection).has_table("sessions"):
            raise SchemaUnknown("the database has sessions of an early build: set CSRN_STORE to a new one")
        return
    try:
        migrations.get_revision(found)
    except CommandError:
        raise SchemaUnknown(
            f"the database was made by a newer release (schema {found}): install that release"
        ) from None
