"""What does not start says why, in a line that names the remedy, and exits: 1 can't, 2 wrong settings or arguments."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from alembic import command
from ports import free_port

from cli.migrations import ROOT, alembic_config
from shared.revision import REVISION


def assert_refused(done, code, *words):
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert [word for word in words if word not in done.stderr] == []
    assert done.stdout == ""


@pytest.fixture
def stale_dsn(dsn):
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("update alembic_version set version_num = '0000'")
    return dsn


@pytest.fixture
def nobody_dsn():
    return f"postgresql://127.0.0.1:{free_port()}/board"


@pytest.fixture
def taken_port():
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield somebody.getsockname()[1]


def test_without_a_schema(api_and_worker, servers, empty_dsn):
    for done in api_and_worker(POSTGRES_DSN=empty_dsn, REDIS_URL=servers.redis_url):
        assert_refused(done, 1, f"{done.name}: can't start", "revision none", "leaderboard migrate")


def test_with_a_stale_schema(api_and_worker, servers, stale_dsn):
    for done in api_and_worker(POSTGRES_DSN=stale_dsn, REDIS_URL=servers.redis_url):
        assert_refused(done, 1, f"{done.name}: can't start", "0000", REVISION, "leaderboard migrate")


def test_without_an_answer_of_postgres(api_and_worker, servers, nobody_dsn):
    for done in api_and_worker(POSTGRES_DSN=nobody_dsn, REDIS_URL=servers.redis_url, STARTUP_TIMEOUT_SECONDS="0.5"):
        assert_refused(done, 1, f"{done.name}: can't start", "127.0.0.1", "refused")


def test_with_a_dsn_that_is_none(api_and_worker, servers):
    for done in api_and_worker(POSTGRES_DSN="no dsn", REDIS_URL=servers.redis_url):
        assert_refused(done, 1, f"{done.name}: can't start")


def test_with_wrong_settings_every_one_of_them_is_told(at_once):
    wrong = {"REDIS_URL": "http://cache", "API_PORT": "70000", "DB_POOL_MAX": "many", "LOG_LEVEL": "loud"}
    commands = [["api"], ["worker"], ["cli", "run"], ["cli", "migrate"], ["cli", "psql"]]
    for done in at_once(*commands, **wrong):
        required = ["POSTGRES_DSN: "] if done.name in {"api", "worker"} else []
        assert_refused(done, 2, *(f"{name}: " for name in wrong), *required)


def test_on_a_taken_port(api_and_worker, taken_port, dsn, servers):
    ports = {"API_PORT": taken_port, "WORKER_HEALTH_PORT": taken_port}
    for done in api_and_worker(POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url, **ports):
        assert_refused(done, 1, "in use", str(taken_port))


def test_run_without_an_answer_of_its_postgres(program, nobody_dsn, servers, scratch):
    done = program(
        "cli",
        "run",
        POSTGRES_DSN=nobody_dsn,
        REDIS_URL=servers.redis_url,
        STARTUP_TIMEOUT_SECONDS="0.5",
        DATA_DIR=scratch / "unanswered",
    )
    assert_refused(done, 1, "leaderboard: ", "127.0.0.1", "refused")


def test_help_lists_the_commands():
    console_script = Path(sys.executable).with_name("leaderboard")
    done = subprocess.run([console_script, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert [name for name in ("run", "migrate", "psql", "demo") if f" {name} " not in done.stdout] == []


def test_an_unknown_command(program):
    assert_refused(program("cli", "fly"), 2, "fly")


def test_migrate_can_be_repeated(program, empty_dsn):
    for _ in range(2):
        done = program("cli", "migrate", POSTGRES_DSN=empty_dsn)
        assert (done.returncode, done.stdout) == (0, f"schema is at revision {REVISION}\n"), done.stderr
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("select count(*) from outbox").fetchone() == (0,)


def test_migrate_needs_to_know_the_database(program, tmp_path):
    assert_refused(program("cli", "migrate", DATA_DIR=tmp_path), 2, "POSTGRES_DSN is not set", "make run")


def test_migrate_of_a_database_that_another_build_migrated(program, stale_dsn):
    assert_refused(program("cli", "migrate", POSTGRES_DSN=stale_dsn), 1, "can't migrate", "0000", "another build")


def test_migrate_waits_for_a_lock_and_says_so_once(start_program, until, dsn):
    command.downgrade(alembic_config(dsn), "0001")
    waiting = "select from pg_stat_activity where application_name = 'leaderboard-migrate' and wait_event = 'relation'"
    with psycopg.connect(dsn) as holder, psycopg.connect(dsn, autocommit=True) as watcher:
        holder.execute("lock table outbox, score_events in access share mode")
        process = start_program("cli", "migrate", POSTGRES_DSN=dsn)
        told = [process.stderr.readline()]
        while "waiting for a lock" not in told[-1]:
            assert told[-1], told
            told.append(process.stderr.readline())
        until(lambda: watcher.execute(waiting).fetchone() is not None, "it tries again")
    rest = process.stderr.read()
    assert process.wait() == 0, rest
    assert "waiting for a lock" not in rest
    assert process.stdout.read() == f"schema is at revision {REVISION}\n"


def test_migrate_without_an_answer(program, nobody_dsn):
    done = program("cli", "migrate", POSTGRES_DSN=nobody_dsn, STARTUP_TIMEOUT_SECONDS="0.5")
    assert_refused(done, 1, "can't migrate", "127.0.0.1", "refused")


def test_psql_without_data(program, tmp_path):
    done = program("cli", "psql", DATA_DIR=tmp_path / "none")
    assert_refused(done, 1, "no embedded PostgreSQL", str(tmp_path / "none"), "make run")
    assert not (tmp_path / "none").exists()


def test_demo_against_nothing(program):
    url = f"http://127.0.0.1:{free_port()}"
    assert_refused(program("cli", "demo", "--base-url", url), 1, f"{url} does not answer", "make run")


def test_demo_with_arguments_that_can_not_be_right(at_once, tmp_path):
    missing, not_gzip = tmp_path / "missing.csv.gz", tmp_path / "plain.csv.gz"
    not_gzip.write_text("season,user_id,delta\n")
    wrong = [["--file", str(missing)], ["--file", str(not_gzip)], ["--base-url", "localhost"]]
    for (_, value), done in zip(wrong, at_once(*(["cli", "demo", *words] for words in wrong)), strict=True):
        assert_refused(done, 1, value)


def test_run_on_one_port_for_two(program, scratch):
    port = free_port()
    given = {"API_PORT": port, "WORKER_HEALTH_PORT": port, "DATA_DIR": scratch / "one-port"}
    assert_refused(program("cli", "run", **given), 1, "API_PORT and WORKER_HEALTH_PORT are both", str(port))
