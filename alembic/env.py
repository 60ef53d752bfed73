"""Alembic's entry: compares with and migrates to shared.schema, over psycopg, each in its transaction."""

from __future__ import annotations

import psycopg
from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from shared.schema import metadata
from shared.settings import load_settings

dsn = context.config.attributes.get("dsn") or load_settings().postgres_dsn
if not dsn:
    raise SystemExit("POSTGRES_DSN is required: the database to migrate")

# A DSN may be a URL or key=value pairs; psycopg takes both, so SQLAlchemy need not parse it. The lock timeout keeps
# a migration that can't get its lock from queueing all traffic behind it.
engine = create_engine(
    "postgresql+psycopg://",
    creator=lambda: psycopg.connect(dsn, application_name="leaderboard-migrate", options="-c lock_timeout=5s"),
    poolclass=NullPool,
)

with engine.connect() as connection:
    # Two migrations at once take turns; the lock goes with the connection.
    connection.exec_driver_sql("select pg_advisory_lock(hashtext('leaderboard-migrate'))")
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        transaction_per_migration=True,  # so that no lock is held for longer than its own migration needs it
    )
    with context.begin_transaction():
        context.run_migrations()
