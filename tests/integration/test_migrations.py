"""Migrations beside others: what they wait for, for how long, and whose settings hold."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import DBAPIError

from cli.migrations import MigrationError, alembic_config, migrate


def test_a_lock_that_is_not_let_go_is_given_up_with_what_to_do(dsn):
    command.downgrade(alembic_config(dsn), "0001")
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table outbox, score_events in access share mode")
        with pytest.raises(MigrationError, match=r"lock timeout.*no revision is half done.*pg_terminate_backend"):
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
    asked_again = (
        "select from pg_stat_activity where datname = current_database() and application_name = 'leaderboard-migrate'"
        " and query_start > backend_start + interval '300 ms'"
    )
    with (
        ThreadPoolExecutor(1) as executor,
        psycopg.connect(dsn, autocommit=True) as watcher,
        psycopg.connect(dsn, autocommit=True) as other,
    ):
        other.execute("select pg_advisory_lock(hashtext('leaderboard-migrate'))")
        impatient = make_conninfo(dsn, options="-c lock_timeout=1")
        second = executor.submit(migrate, impatient, patience_seconds=0)
        while watcher.execute(asked_again).fetchone() is None and not second.done():
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


_KEYED_OF_0003 = """
with incoming as (
  select s.id, s.season_id, s.user_id, s.delta, nullif(s.key, '') as key, s.place, seasons.epoch
  from (
    select nextval('score_events_id_seq') as id, given.*
    from unnest(
      string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f'), %s::bigint[], string_to_array(%s, E'\\x1f')
    ) with ordinality as given (season_id, user_id, delta, key, place)
  ) as s
  left join seasons on seasons.season_id = s.season_id
), fresh as (
  insert into idempotency_keys (season_id, key, event_id, user_id, delta)
  select season_id, key, id, user_id, delta from incoming where key is not null
  order by season_id, key, place
  on conflict do nothing
  returning event_id
), entry as (
  insert into score_events (season_id, epoch, id, user_id, delta) overriding system value
  select season_id, epoch, id, user_id, delta from incoming
  where key is null or id in (select event_id from fresh)
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry
returning id
"""


def downgrade(dsn, revision):
    """As `migrate`, asks again for tables that others hold; the test's own timeout bounds it."""
    while True:
        try:
            return command.downgrade(alembic_config(dsn), revision)
        except DBAPIError as error:
            if not isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise


def test_scores_go_on_beside_a_migration(dsn):
    """Those of the build before, with keys: they lock seasons first and the ledger behind, others do otherwise."""
    command.downgrade(alembic_config(dsn), "0003")
    done, stored, errors = threading.Event(), [], []

    def send(sender):
        with psycopg.connect(dsn, autocommit=True) as conn:
            for number in itertools.count():
                if done.is_set():
                    return
                try:
                    conn.execute(_KEYED_OF_0003, ("s", "ann", "{1}", f"{sender}-{number}"))
                    stored.append(number)
                except psycopg.Error as error:
                    errors.append(error)

    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("insert into seasons (season_id) values ('s')")
        with ThreadPoolExecutor(12) as executor:
            senders = [executor.submit(send, sender) for sender in range(12)]
            try:
                for _ in range(4):
                    migrate(dsn, patience_seconds=300)
                    downgrade(dsn, "0003")
            finally:
                done.set()
            for sender in senders:
                sender.result()
        assert errors == []
        assert conn.execute("select count(*), count(distinct id) from score_events").fetchone() == (len(stored),) * 2


@pytest.mark.parametrize(
    ("made", "unmade", "before", "stays"),
    [
        ("aggregation = 'best'", "aggregation = 'sum'", "0004", "0007"),
        ("windows = true", "windows = false", "0007", "0011"),
        ("tie_break = 'earliest'", "tie_break = 'member'", "0008", "0011"),
    ],
)
def test_what_the_build_before_does_not_know_is_not_taken_back_to_it(dsn, made, unmade, before, stays):
    """Nor a part of it: each revision is a transaction of its own, and what it dropped is gone."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("insert into seasons (season_id) values ('s')")
        conn.execute(f"update seasons set {made}")
        with pytest.raises(RuntimeError, match="nothing is changed"):
            command.downgrade(alembic_config(dsn), before)
        assert conn.execute("select version_num from alembic_version").fetchone() == (stays,)
        conn.execute(f"update seasons set {unmade}")
    command.downgrade(alembic_config(dsn), "0003")
    migrate(dsn)
    command.check(alembic_config(dsn))


IN_USE = {
    "moderations": (
        "insert into moderations (id, season_id, action, user_id, actor, reason) values (1, 's', 'hide', 'p', 'k', 'r')"
    ),
    "outbox": (
        "insert into outbox (id, event_type, season_id, epoch, user_id, delta) values (1, 'erase', 's', 1, 'p', 0)"
    ),
    "season_epochs": (
        "insert into season_epochs (season_id, epoch, aggregation, sort_order, windows, tie_break, ended_at,"
        " reason, archived) values ('s', 1, 'sum', 'desc', false, 'member', now(), 'reset', true)"
    ),
    "epoch_hooks": "insert into epoch_hooks (season_id, epoch, url, top) values ('s', 1, 'u', 1)",
    "deliveries": (
        "insert into deliveries (season_id, epoch, url, webhook_id, body, body_digest, body_bytes)"
        " values ('s', 1, 'u', 'w', '', '', 0)"
    ),
    "reset_schedules": (
        "insert into reset_schedules (season_id, cron, time_zone, archive, next_at)"
        " values ('s', '0 0 * * 1', 'UTC', false, now())"
    ),
}


@pytest.mark.parametrize("table", IN_USE)
def test_what_is_in_use_is_not_taken_back_and_nothing_of_it_is_dropped(dsn, table):
    """By no revision of those that came together: the one that asks is the newest of them."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(IN_USE[table])
        with pytest.raises(RuntimeError, match="nothing of it is taken back"):
            command.downgrade(alembic_config(dsn), "0015")
        assert conn.execute("select version_num from alembic_version").fetchone() == ("0025",)
        assert conn.execute(f"delete from {table}").rowcount == 1
    command.downgrade(alembic_config(dsn), "0015")
    migrate(dsn)
    command.check(alembic_config(dsn))
