"""SIGTERM of a worker with work before it: it ends soon, and what it was at is done as a whole or not at all."""

from __future__ import annotations

import signal

import psycopg
import pytest
from redis import Redis

from shared import keys

BATCH = 100
EVENTS = 40_000
SEASONS = 3

_BACKLOG = """
with entry as (
  insert into score_events (season_id, epoch, user_id, delta)
  select 'backlog-' || n %% %(seasons)s, 1, 'u' || n %% 1009, n %% 7 + 1 from generate_series(1, %(events)s) as n
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry
"""


@pytest.fixture
def ledger(dsn):
    """A connection to a ledger with a backlog that takes a worker a while."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        season_ids = [f"backlog-{n}" for n in range(SEASONS)]
        conn.execute("insert into seasons (season_id) select unnest(%s::text[])", (season_ids,))
        conn.execute(_BACKLOG, {"seasons": SEASONS, "events": EVENTS})
        yield conn


@pytest.fixture
def boards(servers):
    with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
        redis.flushall()
        yield redis


@pytest.fixture
def start_worker(start_program, dsn, servers):
    return lambda batch_size: start_program(
        "worker",
        POSTGRES_DSN=dsn,
        REDIS_URL=servers.redis_url,
        WORKER_HEALTH_PORT=0,
        OUTBOX_BATCH_SIZE=batch_size,
    )


def states(ledger):
    return dict(ledger.execute("select status, count(*) from outbox group by status").fetchall())


def stopped(worker):
    """Stop it; returns its exit code. One that needs far longer than its own limit of 4 s fails the test."""
    worker.send_signal(signal.SIGTERM)
    return worker.wait(15)


def assert_boards_equal_the_ledger(ledger, boards):
    rows = ledger.execute("select season_id, user_id, sum(delta) from score_events group by 1, 2").fetchall()
    for season_id in (f"backlog-{n}" for n in range(SEASONS)):
        sums = {user_id: float(total) for season, user_id, total in rows if season == season_id}
        assert dict(boards.zrange(keys.board(season_id), 0, -1, withscores=True)) == sums


def test_in_the_middle_of_a_backlog(start_worker, ledger, boards, until):
    worker = start_worker(BATCH)
    until(lambda: states(ledger).get("done"), "the first batch is done")
    assert stopped(worker) == 0
    counts = states(ledger)
    assert set(counts) == {"pending", "done"}
    assert counts["pending"] + counts["done"] == EVENTS
    assert counts["done"] % BATCH == 0
    folded = ledger.execute("select sum(score) from standings").fetchone()
    assert ledger.execute("select sum(delta) from outbox where status = 'done'").fetchone() == folded

    worker = start_worker(5000)
    until(lambda: states(ledger) == {"done": EVENTS}, "the backlog is drained")
    assert_boards_equal_the_ledger(ledger, boards)
    assert stopped(worker) == 0


_WAITS = """
select count(*) from pg_stat_activity
where datname = current_database() and application_name = 'leaderboard-worker' and wait_event_type = 'Lock'
"""


@pytest.mark.usefixtures("boards")
def test_while_another_holds_its_seasons(start_worker, ledger, dsn, until):
    with psycopg.connect(dsn) as other:
        other.execute("select from seasons for update")
        worker = start_worker(BATCH)
        until(lambda: ledger.execute(_WAITS).fetchone()[0], "the worker waits for a season")
        assert stopped(worker) == 0
        assert states(ledger) == {"pending": EVENTS}
        assert ledger.execute("select count(*) from standings").fetchone() == (0,)
