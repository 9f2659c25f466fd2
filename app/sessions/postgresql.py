"""PostgreSQL: for several replicas that share their sessions."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from app.sessions.database import Database
from app.sessions.errors import SchemaUnknown, StoreUnavailable

logger = logging.getLogger("csrn")

CONNECTIONS = 8
PARAMETERS = {
    # Of several hosts in the address, use the current primary.
    "target_session_attrs": "read-write",
    "application_name": "csrn",
    "connect_timeout": "3",
    # A host that disappears is noticed after 15 to 20 seconds.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
    "options": "-c statement_timeout=10s -c idle_in_transaction_session_timeout=20s",
}
"""Connection parameters of libpq that the address does not set"""


def open_postgresql(address: str) -> Database:
    """The database at an address. If it cannot be reached now, the first call that succeeds connects.

    Raises: StoreUnavailable if the address is malformed; SchemaUnknown.
    """
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
    database = Database(reads=snapshots, writes=engine, threads=CONNECTIONS)
    try:
        database.upgrade()
    except SchemaUnknown:
        raise
    except StoreUnavailable as error:
        logger.warning("session store: %s", error)
    return database
