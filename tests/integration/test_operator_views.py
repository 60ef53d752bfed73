"""The views that operators read: what they say, and that they do not read all of a large outbox for it."""

from __future__ import annotations

import json

import psycopg
import pytest
from alembic import command

from cli.migrations import alembic_config, migrate
from shared.operator_views import VIEWS


@pytest.fixture
def conn(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn


_FILL = """
insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, attempts, created_at)
select n, 'score', 's' || n %% 3, 1, 'u' || n, 1, %s, %s, now() - %s * interval '1 second'
from generate_series(%s::int, %s::int) as n
"""


def test_the_migrations_lead_to_the_views_of_this_build(conn):
    for name, query in VIEWS.items():
        conn.execute(f"create view built as {query}")
        assert conn.execute(f"select pg_get_viewdef('{name}') = pg_get_viewdef('built')").fetchone() == (True,), name
        conn.execute("drop view built")


def test_what_few_events_there_are_is_counted(conn):
    conn.execute(_FILL, ("pending", 2, 60, 1, 4))
    conn.execute(_FILL, ("failed", 1, 0, 5, 6))
    conn.execute(_FILL, ("done", 0, 0, 7, 30))
    conn.execute(_FILL, ("discarded", 0, 0, 31, 31))
    counted = [("pending", 4, False), ("done", 24, False), ("failed", 2, False), ("discarded", 1, False)]
    assert conn.execute("select * from outbox_status").fetchall() == counted
    oldest = conn.execute("select season_id, pending, oldest_id, attempts, age >= interval '60 s' from outbox_oldest")
    assert sorted(oldest) == [("s0", 1, 3, 2, True), ("s1", 2, 1, 2, True), ("s2", 1, 2, 2, True)]


def test_a_large_outbox_is_not_read(conn):
    conn.execute(_FILL, ("done", 0, 0, 1, 195_000))
    conn.execute(_FILL, ("discarded", 0, 0, 195_001, 200_000))
    conn.execute(_FILL, ("pending", 0, 0, 200_001, 200_500))
    conn.execute(_FILL, ("failed", 0, 0, 200_501, 200_510))
    conn.execute("insert into seasons (season_id) select 's' || n from generate_series(0, 2) as n")
    conn.execute("insert into standings select 's0', 1, 'u' || n, n, 1 from generate_series(1, 5000) as n")
    conn.execute(
        "insert into standings values ('s1', 1, 'ann', 5, 1), ('s1', 1, 'gone', null, 1), ('s1', 2, 'x', 1, 1)"
    )
    conn.execute("vacuum analyze outbox, standings, seasons")
    told = {status: (events, estimated) for status, events, estimated in conn.execute("select * from outbox_status")}
    assert (told["pending"], told["failed"]) == ((500, False), (10, False))
    assert told["done"] == (pytest.approx(195_000, rel=0.05), True)
    assert told["discarded"] == (pytest.approx(5000, rel=0.5), True)
    for name in ("outbox_status", "outbox_oldest", "season_overview"):
        (found,) = conn.execute(f"explain (analyze, format json) select * from {name}").fetchone()
        (plan,) = found if isinstance(found, list) else json.loads(found)
        read = [node for node in nodes(plan["Plan"]) if node.get("Relation Name") in ("outbox", "standings")]
        used = {node["Node Type"]: node.get("Index Name") for node in read if node["Actual Loops"]}
        assert read
        assert "Seq Scan" not in used, name
        assert set(used.values()) <= {"outbox_pending_idx", "outbox_failed_idx", "standings_pkey"}, name
    overview = "select season_id, state, players, players_estimated, pending from season_overview order by season_id"
    large, *others = conn.execute(overview).fetchall()
    assert large == ("s0", "open", pytest.approx(5000, rel=0.1), True, 167)
    assert others == [("s1", "open", 1, False, 167), ("s2", "open", 0, False, 166)]


def nodes(plan):
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def test_who_keeps_a_transaction_open(conn, dsn):
    with psycopg.connect(dsn, application_name="psql") as other:
        other.execute("set transaction isolation level repeatable read")
        other.execute("select from seasons")
        pid = other.info.backend_pid
        found = "select process, state, snapshot_age >= 0, transaction_age >= '0' from worker_activity where pid = %s"
        assert conn.execute(found, (pid,)).fetchone() == ("psql", "idle in transaction", True, True)
    assert conn.execute(found, (pid,)).fetchone() is None


def test_alembic_by_itself_does_not_hold_up_the_service_either(dsn):
    """`alembic upgrade` has the bounds that `leaderboard migrate` has: they are in alembic/env.py."""
    command.downgrade(alembic_config(dsn), "0010")
    with psycopg.connect(dsn) as holder:
        holder.execute("lock table outbox in access share mode")
        with pytest.raises(Exception, match="lock timeout") as refused:
            command.upgrade(alembic_config(dsn), "head")
        assert isinstance(refused.value.orig, psycopg.errors.LockNotAvailable)
    migrate(dsn)
    command.check(alembic_config(dsn))
