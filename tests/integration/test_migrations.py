"""Migrations beside others: what they wait for, for how long, and whose settings hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import make_conninfo

from cli.migrations import MigrationError, alembic_config, migrate


def test_a_lock_that_is_not_let_go_is_given_up_with_what_to_do(dsn):
    command.downgrade(alembic_config(dsn), "0001")
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table outbox, score_events in access share mode")
        with pytest.raises(MigrationError, match=r"lock timeout.*nothing is changed.*pg_terminate_backend"):
            migrate(dsn, patience_seconds=0)
    migrate(dsn)
    command.check(alembic_config(dsn))


def test_a_deadlock_is_trouble_that_may_pass(dsn):
    command.downgrade(alembic_config(dsn), "base")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(
            "create function fail() returns event_trigger language plpgsql as"
            " $$ begin raise sqlstate '40P01' using message = 'deadlock detected'; end $$"
        )
        conn.execute("create event trigger deadlock on ddl_command_start execute function fail()")
        with pytest.raises(MigrationError, match=r"others held .*\(deadlock detected\)"):
            migrate(dsn, patience_seconds=0)
        conn.execute("drop event trigger deadlock")
    migrate(dsn)


def test_a_migration_waits_for_its_turn_however_long_the_other_one_needs(dsn):
    command.downgrade(alembic_config(dsn), "base")
    waits = (
        "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
        " and now() - query_start > interval '20 ms'"
    )
    with (
        ThreadPoolExecutor(1) as executor,
        psycopg.connect(dsn, autocommit=True) as watcher,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        other.execute("select pg_advisory_lock(hashtext('leaderboard-migrate'))")
        impatient = make_conninfo(dsn, options="-c lock_timeout=1")
        second = executor.submit(migrate, impatient, patience_seconds=0)
        while watcher.execute(waits).fetchone() is None and not second.done():
            pass
        other.execute("select pg_advisory_unlock_all()")
        second.result()
    command.check(alembic_config(dsn))


def test_the_options_of_the_dsn_are_kept(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create schema boards")
        migrate(make_conninfo(dsn, options="-c search_path=boards"))
        assert conn.execute("select to_regclass('boards.outbox') is not null").fetchone() == (True,)


def test_what_the_database_refuses_is_told_without_a_second_attempt(dsn):
    command.downgrade(alembic_config(dsn), "base")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table outbox ()")
    with pytest.raises(MigrationError, match="already exists"):
        migrate(dsn)
