"""Alembic's entry: compares with and migrates to shared.schema, over psycopg, each in its transaction."""

from __future__ import annotations

import time
from typing import Final

import psycopg
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from shared.postgres import connection_settings
from shared.schema import metadata
from shared.settings import load_settings

_TURN_SECONDS: Final = 0.2

dsn = context.config.attributes.get("dsn") or load_settings().postgres_dsn
if not dsn:
    raise SystemExit("POSTGRES_DSN is required: the database to migrate")

conninfo = connection_settings(
    dsn,
    "migrate",
    # A statement that reads a large table has the time it needs.
    statement_ms=0,
    # All traffic queues behind a request for an exclusive lock, and the API answers within 3 s.
    lock_ms=1000,
    idle_in_transaction_ms=60_000,
)

# A DSN may be a URL or key=value pairs; psycopg takes both, so SQLAlchemy need not parse it.
engine = create_engine(
    "postgresql+psycopg://",
    creator=lambda: psycopg.connect(conninfo),
    poolclass=NullPool,
)

with engine.connect() as connection:
    # Two migrations at once take turns, however long the first one needs; the lock goes with the connection. Asked for
    # again and again: `create index concurrently` waits for every snapshot, also for that of who waits for this.
    while not connection.exec_driver_sql("select pg_try_advisory_lock(hashtext('leaderboard-migrate'))").scalar_one():
        connection.commit()
        time.sleep(_TURN_SECONDS)
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transaction_per_migration=True,  # so that no lock is held for longer than its own migration needs it
    )
    with context.begin_transaction():
        context.run_migrations()
