"""What does not start says why, in a line that names the remedy, and exits: 1 can't, 2 wrong settings or arguments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from cli.embedded.memory import free_port
from cli.migrations import ROOT
from shared.revision import REVISION

PROCESSES = ["api", "worker"]


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


@pytest.mark.parametrize("process", PROCESSES)
def test_without_a_schema(program, servers, empty_dsn, process):
    done = program(process, POSTGRES_DSN=empty_dsn, REDIS_URL=servers.redis_url)
    assert_refused(done, 1, f"{process}: can't start", "revision none", "leaderboard migrate")


@pytest.mark.parametrize("process", PROCESSES)
def test_with_a_stale_schema(program, servers, stale_dsn, process):
    done = program(process, POSTGRES_DSN=stale_dsn, REDIS_URL=servers.redis_url)
    assert_refused(done, 1, f"{process}: can't start", "0000", REVISION, "leaderboard migrate")


@pytest.mark.parametrize("process", PROCESSES)
def test_without_an_answer_of_postgres(program, servers, nobody_dsn, process):
    done = program(process, POSTGRES_DSN=nobody_dsn, REDIS_URL=servers.redis_url, STARTUP_TIMEOUT_SECONDS="0.5")
    assert_refused(done, 1, f"{process}: can't start", "127.0.0.1", "refused")


@pytest.mark.parametrize("process", PROCESSES)
def test_with_a_dsn_that_is_none(program, servers, process):
    done = program(process, POSTGRES_DSN="no dsn", REDIS_URL=servers.redis_url)
    assert_refused(done, 1, f"{process}: can't start")


@pytest.mark.parametrize("argv", [["api"], ["worker"], ["cli", "run"], ["cli", "migrate"], ["cli", "psql"]], ids=str)
def test_with_wrong_settings_every_one_of_them_is_told(program, argv):
    done = program(*argv, REDIS_URL="http://cache", API_PORT="70000", DB_POOL_MAX="many", LOG_LEVEL="loud")
    required = ["POSTGRES_DSN"] if argv[0] in PROCESSES else []
    assert_refused(done, 2, "REDIS_URL: ", "API_PORT: ", "DB_POOL_MAX: ", "LOG_LEVEL: ", *required)


def test_an_api_on_a_taken_port(program, stack_less_port, dsn, servers):
    done = program("api", POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url, API_PORT=stack_less_port)
    assert_refused(done, 1, "in use", str(stack_less_port))


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


def test_migrate_needs_to_know_the_database(program):
    assert_refused(program("cli", "migrate"), 2, "POSTGRES_DSN is required")


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


def test_demo_with_an_address_without_scheme(program):
    assert_refused(program("cli", "demo", "--base-url", "localhost"), 1, "localhost")


@pytest.mark.parametrize("content", [None, b"not gzip"], ids=["missing", "not gzip"])
def test_demo_with_a_file_that_is_none(program, tmp_path, content):
    file = tmp_path / "events.csv.gz"
    if content is not None:
        file.write_bytes(content)
    assert_refused(program("cli", "demo", "--file", str(file)), 1, str(file))


@pytest.fixture
def stack_less_port():
    """A port that somebody else listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as somebody:
        yield somebody.getsockname()[1]
