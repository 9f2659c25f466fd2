"""PostgreSQL: for several replicas that share their sessions."""

from __future__ import annotations

import logging

import psycopg
import sqlalchemy as sa

from app.sessions.database import Database
from app.sessions.errors import SchemaUnknown, StoreUnavailable

logger = logging.getLogger("csrn")

CONNECTIONS = 8
PARAMETERS = {
    # Of several hosts in the address, the one that is the primary now.
    "target_session_attrs": "read-write",
    "application_name": "csrn",
    "connect_timeout": "3",
    # A host that went away without a word is noticed after 15 to 20 seconds.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
    "options": "-c statement_timeout=10s -c idle_in_transaction_session_timeout=20s",
}
"""libpq's connection parameters, unless the address has its own"""
SCHEMA_LOCK, OWNER_LOCK = 1129534030, 1129534031
"""Of PostgreSQL's advisory locks, which are told apart by numbers alone"""
PROBE = sa.text(
    "CREATE TEMPORARY TABLE probe ON COMMIT DROP AS SELECT md5(n::text) FROM generate_series(1, 16000) AS n"
)
"""Needs 1 MiB of the disk for a moment"""


class PostgresqlDatabase(Database):
    """A PostgreSQL database. One that cannot be reached yet is connected to when it is needed."""

    def __init__(self, address: str) -> None:
        """Raises: StoreUnavailable if the address is malformed; SchemaUnknown."""
        try:
            url = sa.make_url(address).set(drivername="postgresql+psycopg")
        except (sa.exc.ArgumentError, ValueError):
            raise StoreUnavailable(
                "CSRN_STORE is not of the form postgresql://USER:PASSWORD@HOST:PORT/DB"
            ) from None
        missing = {name: value for name, value in PARAMETERS.items() if name not in url.query}
        engine = sa.create_engine(
            url.update_query_dict(missing),
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,
        )
        snapshots = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        super().__init__(reads=snapshots, writes=engine, threads=CONNECTIONS)
        self._full = False
        try:
            self._upgrade()
        except SchemaUnknown:
            raise
        except StoreUnavailable as error:
            logger.warning("session store: %s", error)

    def lock_owner(self, connection: sa.Connection, owner: str) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(OWNER_LOCK, sa.func.hashtext(owner))))

    def _check(self) -> None:
        """A disk that was full counts as full until a test write succeeds."""
        probe = PROBE if self._full else sa.text("SELECT 1 FROM sessions LIMIT 1")
        self._transact(self._writes, lambda connection: connection.execute(probe))
        self._full = False

    def _lock_schema(self, connection: sa.Connection) -> None:
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))

    def _is_full(self, error: BaseException) -> bool:
        self._full |= isinstance(error, psycopg.errors.DiskFull)
        return isinstance(error, psycopg.errors.DiskFull)
