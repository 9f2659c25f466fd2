from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.sessions import migrations
from app.sessions.errors import SchemaUnknown, StoreUnavailable
from app.sessions.schema import metadata
from app.sessions.store import open_store
from tests.support.stores import QUOTAS, Opener, create, example, names

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0002", "0001"


def upgrade():
    op.add_column("sessions", sa.Column("colour", sa.Text))
"""


def connect(opener: Opener) -> sa.Connection:
    return sa.create_engine(opener.url.replace("postgresql:", "postgresql+psycopg:")).connect()


def test_the_migrations_create_the_tables_that_the_store_uses(opener: Opener) -> None:
    opener.run(lambda store: store.check())
    with connect(opener) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_an_older_schema_is_upgraded_and_a_newer_one_is_refused(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opener.run(lambda store: create(store, "ann", example("1")))
    newer = shutil.copytree(migrations.MIGRATIONS, tmp_path / "100% newer")
    (newer / "versions" / "r0002_next.py").write_text(NEXT)
    with monkeypatch.context() as of_newer_release:
        of_newer_release.setattr(migrations, "MIGRATIONS", newer)
        found, examples = opener.run(lambda store: store.load_examples("ann", session.id))
    assert (found, names(examples)) == (session, [("a", "1")])
    with pytest.raises(SchemaUnknown, match=r"newer release: .* '0002'"):
        opener.open()
    with connect(opener) as connection:
        assert "colour" in {column["name"] for column in sa.inspect(connection).get_columns("sessions")}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    path.write_text("not a database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(f"sqlite:///{path}", quotas=QUOTAS)
