"""Operators' commands as processes: what they find and mend, what they print, how they exit."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys

import psycopg
import pytest
from conftest import make_settings
from ports import free_port
from psycopg.conninfo import conninfo_to_dict
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from cli.embedded.memory import recall
from cli.migrations import ROOT
from shared import keys, ledger
from shared.postgres import create_pool
from shared.projection import Projection
from shared.revision import REVISION
from shared.scores import MAX_SCORE, Score
from worker.app import worker_connection
from worker.batch import BatchApplier


@pytest.fixture
def board(servers):
    """A client of the Valkey, empty in the beginning."""
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def ledger_of(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        yield conn.execute


@pytest.fixture
def scores(dsn, servers, board):  # noqa: ARG001 - emptied first
    """Store scores and, unless told otherwise, apply them."""

    async def store(rows, *, apply):
        settings = make_settings(dsn, servers.redis_url)
        async with (
            create_pool(worker_connection(settings), max_size=2, patience_seconds=60) as pool,
            AsyncRedis.from_url(servers.redis_url, decode_responses=True, protocol=3) as client,
        ):
            async with pool.connection() as conn:
                await ledger.create_seasons(conn, [row[0] for row in rows])
                await ledger.append(conn, [Score(*row) for row in rows])
            applier = BatchApplier(pool, Projection(client), 500, lambda _step: None)
            while apply and (await applier.apply(floor=0, paused=[])).events:
                pass

    return lambda *rows, apply=True: asyncio.run(store(rows, apply=apply))


@pytest.fixture
def leaderboard(program, dsn, servers, tmp_path):
    """Run a command against this test's servers."""

    def run(*argv, **settings):
        given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "DATA_DIR": tmp_path, **settings}
        done = program("cli", *map(str, argv), **given)
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done

    return run


def place_of_postgres(dsn):
    given = conninfo_to_dict(dsn)
    return given["host"], given["port"], given["dbname"]


def test_verify_finds_and_repairs(leaderboard, scores, board):
    scores(("s", "ann", 5), ("s", "bob", 7), ("t", "ann", 1))
    done = leaderboard("verify")
    assert done.returncode == 0
    assert "2 seasons, 3 standings: ledger, standings and boards are equal" in done.stdout
    board.zadd(keys.board("s"), {"ann": 9})
    done = leaderboard("verify", "--season", "s")
    assert done.returncode == 1
    assert "board wrong: ann, standing 5, board 9" in done.stdout
    done = leaderboard("verify", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["equal"], told["differences"], told["repaired"]) == (False, 1, 0)
    wrong, right = told["seasons"]
    assert wrong == {
        "seasonId": "s",
        "equal": False,
        "players": {"ledger": 2, "standings": 2, "board": 2},
        "differences": {"boardWrong": 1},
        "first": [{"kind": "boardWrong", "userId": "ann", "window": None, "expected": 5, "found": 9.0}],
        "repaired": 0,
        "unsettled": None,
    }
    assert right["equal"]
    assert leaderboard("verify", "--repair").returncode == 0
    assert board.zscore(keys.board("s"), "ann") == 5
    assert leaderboard("verify").returncode == 0


def test_verify_tells_of_a_board_that_nobody_repairs(leaderboard, scores, board):
    scores(("s", "ann", 5))
    board.delete(keys.meta("s"))
    done = leaderboard("verify", "--patience", "0.1")
    assert done.returncode == 1
    assert "is one running?" in done.stdout


def test_verify_without_servers_exits_with_two_and_says_what_to_do(leaderboard):
    nobody = free_port()
    done = leaderboard("verify", POSTGRES_DSN=f"postgresql://127.0.0.1:{nobody}/board")
    assert (done.returncode, done.stdout) == (2, "")
    assert "PostgreSQL does not answer" in done.stderr
    done = leaderboard("verify", REDIS_URL=f"redis://:secret@127.0.0.1:{nobody}/0")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Redis does not answer at redis://127.0.0.1:{nobody}/0" in done.stderr
    assert "secret" not in done.stderr
    done = leaderboard("verify", POSTGRES_DSN="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "POSTGRES_DSN is not set" in done.stderr
    assert "make run" in done.stderr
    for setting in ("POSTGRES_DSN", "REDIS_URL"):
        done = leaderboard("verify", **{setting: {"POSTGRES_DSN": "no dsn", "REDIS_URL": "redis://host:port"}[setting]})
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{setting} is wrong" in done.stderr
    done = leaderboard("verify", "--season", "no/pe")
    assert (done.returncode, done.stdout) == (2, "")
    assert "season id must be" in done.stderr
    done = leaderboard("verify", "--season", "nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such season: nope" in done.stderr


def test_rebuild(leaderboard, scores, board):
    scores(("s", "ann", 5), ("s", "bob", 7), ("t", "ann", 1))
    board.zadd(keys.board("s"), {"ghost": 9})
    board.delete(keys.meta("t"))
    done = leaderboard("rebuild", "--season", "s", "--json")
    assert done.returncode == 0
    (one,) = json.loads(done.stdout)["seasons"]
    assert (one["seasonId"], one["players"]) == ("s", 2)
    assert board.zrange(keys.board("s"), 0, -1) == ["ann", "bob"]
    assert leaderboard("rebuild").returncode == 2
    assert leaderboard("rebuild", "--all", "--season", "s").returncode == 2
    done = leaderboard("rebuild", "--all")
    assert done.returncode == 0
    assert "2 boards built anew, 3 players" in done.stdout
    assert leaderboard("verify", "--patience", "0").returncode == 0


def test_failed_events_are_listed_retried_and_discarded(leaderboard, scores, board, ledger_of):
    scores(("s", "ann", MAX_SCORE), ("t", "bob", 1))
    scores(("s", "ann", 1))
    scores(("s", "late", 2), apply=False)
    done_id, other_id, failed_id, pending_id = (row[0] for row in ledger_of("select id from outbox order by id"))
    status = json.loads(leaderboard("outbox", "status", "--json").stdout)
    assert status["counts"] == {"pending": 1, "done": 2, "failed": 1, "discarded": 0}
    assert (status["seasonsWaiting"], status["oldestPendingSeconds"] > 0) == (1, True)
    assert list(status["failedByReason"].values()) == [1]
    assert "waiting: 1 season" in leaderboard("outbox", "status").stdout
    (failed,) = json.loads(leaderboard("outbox", "failed", "--season", "s", "--json").stdout)["events"]
    assert (failed["id"], failed["userId"], failed["delta"], failed["attempts"]) == (failed_id, "ann", 1, 1)
    assert str(failed_id) in leaderboard("outbox", "failed").stdout
    assert leaderboard("outbox", "failed", "--season", "t").stdout == "no failed events\n"

    assert leaderboard("outbox", "retry", failed_id).returncode == 0
    scores(("t", "bob", 1))  # a batch, in which it fails again
    assert list(ledger_of("select status, attempts from outbox where id = 3")) == [("failed", 2)]
    done = leaderboard("outbox", "retry", done_id, 999)
    assert done.returncode == 1
    assert f"event {done_id} is done: only failed ones" in done.stdout
    assert "event 999 is not in the outbox" in done.stdout

    done = leaderboard("outbox", "discard", failed_id)
    assert (done.returncode, "--yes" in done.stderr) == (2, True)
    done = leaderboard("outbox", "discard", done_id, other_id, "--yes")
    assert done.returncode == 1
    assert f"send a score of -{MAX_SCORE} for player ann of season s" in done.stdout
    done = leaderboard("outbox", "discard", "--all", "--season", "s", "--yes", "--json")
    expected = {"complete": True, "changed": [failed_id], "refused": [], "left": []}
    assert (done.returncode, json.loads(done.stdout)) == (0, expected)
    assert leaderboard("outbox", "discard", failed_id, "--yes").returncode == 1
    assert "send its 1 for player ann" in leaderboard("outbox", "retry", failed_id).stdout
    assert leaderboard("outbox", "retry", "--all").stdout == "0 events sent back to pending\n"
    assert leaderboard("verify").returncode == 0
    assert board.zscore(keys.board("s"), "ann") == MAX_SCORE
    ledger_of("update outbox set status = 'failed', last_error = null where id = %s", [pending_id])
    assert "no reason noted" in leaderboard("outbox", "failed").stdout
    for wrong in (
        ["retry"],
        ["retry", 2**63],
        ["retry", "1", "--all"],
        ["retry", "1", "--season", "s"],
        ["discard"],
        ["retry", "x"],
    ):
        assert leaderboard("outbox", *wrong).returncode == 2


def test_a_pending_event_is_discarded_by_id(leaderboard, scores, ledger_of):
    scores(("s", "ann", 5))
    scores(("s", "ann", 7), apply=False)
    ((event_id,),) = ledger_of("select id from outbox where status = 'pending'")
    assert leaderboard("outbox", "discard", event_id, "--yes").stdout == "1 event discarded\n"
    assert leaderboard("verify").returncode == 0


def test_purge(leaderboard, scores, ledger_of):
    scores(("s", "ann", MAX_SCORE), ("s", "bob", 1))
    scores(("s", "ann", 1))
    scores(("s", "ann", 2))
    scores(("s", "bob", 2), apply=False)
    ((newest,),) = ledger_of("select max(id) from outbox where status = 'failed'")
    assert leaderboard("outbox", "discard", newest, "--yes").returncode == 0
    assert json.loads(leaderboard("purge", "--json").stdout)["deleted"]["outboxEvents"] == 0
    done = leaderboard("purge", "--older-than", "0", "--json", REDIS_URL="")
    assert done.returncode == 0
    assert json.loads(done.stdout)["deleted"]["outboxEvents"] == 3
    assert list(ledger_of("select status from outbox order by id")) == [("failed",), ("pending",)]
    ledger_of("update seasons set epoch = epoch + 1")
    done = leaderboard("purge")
    assert done.returncode == 0
    assert "ledger rows of ended epochs" in done.stdout
    assert list(ledger_of("select count(*) from score_events")) == [(0,)]


def test_purge_leaves_idempotency_keys_to_the_workers(leaderboard, scores, ledger_of):
    """Whatever this shell says of their retention: the service may have promised its clients more."""
    scores(("s", "ann", 1))
    ledger_of(
        "insert into idempotency_keys (season_id, key, event_id, user_id, delta, created_at)"
        " select 's', 'k', id, user_id, delta, now() - interval '2 hours' from outbox"
    )
    done = leaderboard("purge", "--json", IDEMPOTENCY_RETENTION_HOURS="1")
    assert done.returncode == 0
    assert list(json.loads(done.stdout)["deleted"]) == [
        "outboxEvents",
        "minutesOfEndedEpochs",
        "standingsOfEndedEpochs",
        "snapshotsOfEndedEpochs",
        "finalRanksOfEndedEpochs",
        "ledgerRowsOfEndedEpochs",
    ]
    for hours, deleted in ((3, 0), (1, 1)):
        done = leaderboard("purge", "--keys-older-than", hours, "--json", IDEMPOTENCY_RETENTION_HOURS="1")
        assert json.loads(done.stdout)["deleted"]["idempotencyKeys"] == deleted
    assert list(ledger_of("select count(*) from idempotency_keys")) == [(0,)]


def test_a_list_of_failed_events_that_is_cut_says_so(leaderboard, scores, ledger_of):
    for delta in (1000, 2, 3):
        scores(("s", "ann", delta), apply=False)
    ledger_of("update outbox set status = 'failed', created_at = '2026-11-24 12:57:42+00'")
    done = leaderboard("outbox", "failed", "--limit", "2", PGTZ="Asia/Tokyo")
    assert "2 of 3 shown; --limit" in done.stdout
    assert "2026-11-24 12:57:42Z" in done.stdout
    told = json.loads(leaderboard("outbox", "failed", "--limit", "2", "--json").stdout)
    assert (told["total"], [event["delta"] for event in told["events"]]) == (3, [3, 2])
    assert told["events"][0]["createdAt"] == "2026-11-24T12:57:42+00:00"
    done = leaderboard("outbox", "failed")
    assert "shown" not in done.stdout
    assert " 1000 " in done.stdout


def test_verify_of_a_database_without_a_season(leaderboard, dsn, board):
    host, port, database = place_of_postgres(dsn)
    done = leaderboard("verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["seasons"]) == (0, [])
    redis = board.connection_pool.connection_kwargs
    assert done.stderr == (
        f"leaderboard: nothing to compare: there is no season on PostgreSQL {host}:{port}/{database} and "
        f"Redis {redis['host']}:{redis['port']}/0\n"
    )
    done = leaderboard("verify")
    assert (done.returncode, done.stdout) == (0, "0 seasons, nothing compared\n")


@pytest.mark.parametrize("argv", [["retry", "--all"], ["discard", "--all", "--yes"]], ids=["retry", "discard"])
def test_events_that_somebody_else_holds_are_told(leaderboard, scores, ledger_of, dsn, argv):
    scores(("s", "ann", 1), ("s", "ann", 2), ("t", "bob", 3), apply=False)
    ledger_of("update outbox set status = 'failed'")
    first, held, last = (row[0] for row in ledger_of("select id from outbox order by id"))
    with psycopg.connect(dsn) as somebody:
        somebody.execute("select from outbox where id = %s for update", [held])
        done = leaderboard("outbox", *argv, "--json")
        assert done.returncode == 1
        told = json.loads(done.stdout)
        assert (told["changed"], [one["id"] for one in told["left"]]) == ([first, last], [held])
        assert "somebody else held it" in told["left"][0]["reason"]
        done = leaderboard("outbox", *argv)
        assert done.returncode == 1
        assert "1 failed event left: somebody else held it" in done.stdout
    done = leaderboard("outbox", *argv)
    assert (done.returncode, done.stdout[:8]) == (0, "1 event ")


@pytest.mark.parametrize("by_id", [False, True])
def test_a_discard_that_fails_midway_tells_what_it_did(leaderboard, scores, board, ledger_of, by_id):
    def fail_again():
        ledger_of("update outbox set status = 'failed'")
        return [row[0] for row in ledger_of("select id from outbox order by season_id")]

    scores(("s", "ann", 1), ("t", "bob", 2), apply=False)
    board.set(keys.meta("t"), "not a hash")
    in_s, in_t = fail_again()
    chosen = [in_s, in_t] if by_id else ["--all"]
    done = leaderboard("outbox", "discard", *chosen, "--yes", "--json")
    assert done.returncode == 1
    assert "season t: " in done.stderr
    assert json.loads(done.stdout) == {"complete": False, "changed": [in_s], "refused": [], "left": []}
    assert list(ledger_of("select status from outbox order by season_id")) == [("discarded",), ("failed",)]
    fail_again()
    done = leaderboard("outbox", "discard", *chosen, "--yes")
    assert done.returncode == 1
    assert done.stdout == "at least 1 event discarded before that, which stays: season s 1\n"
    done = leaderboard("outbox", "discard", in_t, "--yes")
    assert (done.returncode, done.stdout) == (1, "")


def test_servers_that_do_not_belong_together_are_refused(leaderboard, tmp_path):
    recall(tmp_path)  # as after `make run`
    for missing, given in (("REDIS_URL", "POSTGRES_DSN"), ("POSTGRES_DSN", "REDIS_URL")):
        for argv in (["verify"], ["rebuild", "--all"], ["outbox", "discard", "1", "--yes"]):
            done = leaderboard(*argv, **{missing: ""})
            assert (done.returncode, done.stdout) == (2, "")
            assert f"{missing} is not set, {given} is" in done.stderr
    assert leaderboard("outbox", "status", REDIS_URL="").returncode == 0


def test_what_writes_tells_where_before_it_does(leaderboard, scores, board, dsn):
    scores(("s", "ann", 1))
    host, port, database = place_of_postgres(dsn)
    redis = board.connection_pool.connection_kwargs
    ledger_alone = f"leaderboard: working on PostgreSQL {host}:{port}/{database}"
    both = f"{ledger_alone} and Redis {redis['host']}:{redis['port']}/0"
    for argv, told in (
        (["rebuild", "--all"], both),
        (["verify", "--repair", "--json"], both),
        (["outbox", "discard", "--all", "--yes"], both),
        (["outbox", "retry", "--all", "--json"], ledger_alone),
        (["outbox", "retry", "1"], ledger_alone),
        (["purge"], ledger_alone),
        (["migrate"], ledger_alone),
    ):
        assert leaderboard(*argv).stderr == told + "\n"
    for argv in (["verify"], ["outbox", "status"], ["outbox", "failed"]):
        assert leaderboard(*argv).stderr == ""


def test_beside_make_run_no_setting_is_needed(make_run, program):
    run = make_run().start().until_ready()
    run.until_on_board("s", run.stored("s", "ann"))
    done = program("cli", "verify", "--season", "s", DATA_DIR=run.data_dir)
    assert (done.returncode, done.stderr) == (0, "")
    done = program("cli", "migrate", DATA_DIR=run.data_dir)
    assert (done.returncode, done.stdout) == (0, f"schema is at revision {REVISION}\n")
    assert run.end(signal.SIGINT) == 0
    done = program("cli", "verify", DATA_DIR=run.data_dir)
    assert done.returncode == 2
    assert "PostgreSQL does not answer" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_rebuild_that_is_interrupted_leaves_nothing(
    start_program, until, scores, board, ledger_of, dsn, servers, number, code
):
    scores(("s", "ann", 5))
    ledger_of("insert into standings select 's', 1, 'u' || n, n, 1 from generate_series(1, 300000) as n")
    token = list(ledger_of("select token from seasons"))
    process = start_program("cli", "rebuild", "--season", "s", POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url)
    until(lambda: board.keys("*staging*"), "a staged board")
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, "")
    assert "rolled back" in err
    assert "Traceback" not in err
    assert board.keys("*staging*") == []
    assert board.zrange(keys.board("s"), 0, -1) == ["ann"]
    assert list(ledger_of("select token from seasons")) == token


def test_a_discard_asks_on_a_terminal(scores, ledger_of, dsn, servers):
    scores(("s", "ann", MAX_SCORE))
    scores(("s", "ann", 1))
    for answer, code, status in ((b"n\n", 1, "failed"), (b"y\n", 0, "discarded")):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "outbox", "discard", "--all"],
            cwd=ROOT,
            env={**os.environ, "POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(theirs)
        os.write(ours, answer)
        _, err = process.communicate(timeout=30)
        os.close(ours)
        assert process.returncode == code
        where, question = err.splitlines()[:2]
        assert where.startswith("leaderboard: working on PostgreSQL ")
        assert "Give up all failed events of all seasons for good?" in question
        assert list(ledger_of("select status from outbox order by id desc limit 1")) == [(status,)]
