from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.sessions import migrations
from app.sessions.errors import SchemaUnknown, StoreUnavailable
from app.sessions.schema import metadata
from app.sessions.store import SessionStore, open_store
from csrn_client.schemas import ClassChange
from tests.support.stores import QUOTAS, Opener, classes, create, disabled, example, names

NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0003", "0002"


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
    (newer / "versions" / "r0003_next.py").write_text(NEXT)
    with monkeypatch.context() as of_newer_release:
        of_newer_release.setattr(migrations, "MIGRATIONS", newer)
        found, examples = opener.run(lambda store: store.load_examples("ann", session.id))
    assert (found, names(examples)) == (session, [("a", "1")])
    with pytest.raises(SchemaUnknown, match=r"newer release: .* '0003'"):
        opener.open()
    with connect(opener) as connection:
        assert "colour" in {column["name"] for column in sa.inspect(connection).get_columns("sessions")}


def test_a_store_of_the_first_release_keeps_its_sessions(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shutil.copytree(migrations.MIGRATIONS, tmp_path / "first")
    for later in first.glob("versions/r*.py"):
        if later.name > "r0002":
            later.unlink()
    with monkeypatch.context() as of_first_release, connect(opener) as connection, connection.begin():
        of_first_release.setattr(migrations, "MIGRATIONS", first)
        migrations.upgrade(connection)
        held = example("1", "笑")
        session = {"number": 1, "id": "s", "owner": "ann", "name": "n", "created_at": 0.0, "metadata": "{}"}
        session |= {"expires_at": math.inf, "revision": 1, "bytes": 50, "weights_sha256": "0" * 64}
        expiring = {**session, "number": 2, "id": "t", "created_at": 4e9, "expires_at": 4e9 + 60}
        row = {"session": 1, "label": held.label, "example_id": "1", "features": held.features.tobytes()}
        for table, values in (("sessions", session), ("sessions", expiring), ("examples", row)):
            columns = sa.table(table, *map(sa.column, values))
            connection.execute(sa.insert(columns), values)

    async def use(store: SessionStore) -> None:
        found, examples, ttl_s = await store.load_for_export("ann", "s")
        assert (names(examples), disabled(found), ttl_s) == ([("笑", "1")], set(), None)
        assert (await store.load_for_export("ann", "t"))[2] == 60
        added, _ = await store.add_examples("ann", "s", [example("2", "笑", image="x")])
        assert (classes(added), added.revision) == ({"笑": 2}, 2)
        await store.update_class("ann", "s", "笑", ClassChange(enabled=False))
        assert disabled(await store.get("ann", "s")) == {"笑"}

    opener.run(use)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sessions.sqlite3"
    path.write_text("not a database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(f"sqlite:///{path}", quotas=QUOTAS)
