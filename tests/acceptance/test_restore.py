"""Backup and restore as an operator does them: whatever Redis shows of what came after, boards follow the ledger."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal

import httpx2
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis

from cli.embedded.memory import free_port
from cli.migrations import alembic_config
from shared import keys
from shared.revision import REVISION

_keys = itertools.count(1)


class Service:
    """An api and a worker process on one pair of servers."""

    def __init__(self, start_program, until, dsn, redis_url):
        self.until = until
        port, health = free_port(), free_port()
        given = {"POSTGRES_DSN": dsn, "REDIS_URL": redis_url, "AUDIT_INTERVAL_MS": 50}
        self.processes = [
            start_program("api", **given, API_PORT=port, API_WORKERS=1),
            start_program("worker", **given, WORKER_HEALTH_PORT=health, SCRUB_PLAYERS_PER_SECOND=0),
        ]
        self.url = f"http://127.0.0.1:{port}/v1/seasons"
        until(lambda: self.ask("GET", "/x/leaderboard/top") is not None, "the api answers")

    def ask(self, method, path, **options):
        try:
            answer = httpx2.request(method, f"{self.url}{path}", trust_env=False, timeout=10, **options)
        except httpx2.TransportError:
            return None
        return answer.json() if answer.status_code < 300 else None

    def score(self, season, **deltas):
        for user, delta in deltas.items():
            # Sent again after any trouble; with a key it counts once.
            request = {"json": {"userId": user, "delta": delta}, "headers": {"Idempotency-Key": f"{next(_keys)}"}}
            self.until(lambda given=request: self.ask("POST", f"/{season}/scores", **given), "a score is taken")

    def board(self, season):
        answer = self.ask("GET", f"/{season}/leaderboard/top")
        return None if answer is None else {item["userId"]: item["score"] for item in answer["items"]}

    def until_shown(self, **boards):
        for season, players in boards.items():
            self.until(lambda s=season, p=players: self.board(s) == p, f"{season} shows {players}")

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(15)


@pytest.fixture
def cli(program, servers, tmp_path):
    def run(dsn, *argv, code=0, **settings):
        given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "DATA_DIR": tmp_path, **settings}
        done = program("cli", *map(str, argv), **given)
        assert "Traceback" not in done.stderr
        assert (done.returncode, "password" in done.stdout) == (code, False), done.stderr
        return done

    return run


@pytest.fixture
async def promoted(own_postgres):
    """A cluster that was a replica once: its timeline is 2, as after a fail-over."""
    from cli.embedded import process

    await process.stop(own_postgres.program, own_postgres.running, 10)
    cluster = own_postgres._cluster
    await asyncio.to_thread((cluster / "standby.signal").touch)
    own_postgres.running = await own_postgres.start()
    async with await psycopg.AsyncConnection.connect(own_postgres.dsn(), autocommit=True) as conn:
        assert await (await conn.execute("select pg_promote()")).fetchone() == (True,)
    return own_postgres.dsn()


def test_boards_follow_an_older_ledger(promoted, empty_dsn, cli, start_program, until, servers, tmp_path):
    """In the place of the same database while the service runs, then on a fresh cluster with a lower timeline."""
    file = tmp_path / "board.backup"
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()
    service = Service(start_program, until, promoted, servers.redis_url)
    service.score("sums", ann=5, bob=7)
    service.score("reset", ann=1)
    service.score("idle", cid=3)
    before = {"sums": {"ann": 5, "bob": 7}, "reset": {"ann": 1}, "idle": {"cid": 3}}
    service.until_shown(**before)
    told = json.loads(cli(promoted, "backup", file, "--json").stdout)
    assert (told["file"], told["revision"], told["bytes"]) == (str(file), REVISION, file.stat().st_size)
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]

    def go_on():
        service.score("sums", ann=10, new=1)
        service.score("sums", bob=10)
        service.ask("DELETE", "/reset")
        service.score("reset", later=9)
        service.score("unknown", ann=4)
        after = {"sums": {"ann": 15, "bob": 17, "new": 1}, "reset": {"later": 9}, "unknown": {"ann": 4}}
        service.until_shown(**after)

    go_on()
    assert "--replace" in cli(promoted, "restore", file, code=2).stderr
    done = json.loads(cli(promoted, "restore", file, "--replace", "--json").stdout)
    assert (done["dumpedRevision"], done["revision"]) == (REVISION, REVISION)
    service.until_shown(**before, unknown={})
    with psycopg.connect(make_conninfo(promoted, dbname=done["kept"])) as conn:
        assert conn.execute("select count(*) from seasons").fetchone() == (4,)
    service.score("sums", ann=1)
    service.until_shown(sums={"ann": 6, "bob": 7})
    cli(promoted, "verify")

    go_on_from_here = {"sums": {"ann": 16, "bob": 17, "new": 1}}
    service.score("sums", ann=10, bob=10, new=1)
    service.score("unknown", ann=4)
    service.until_shown(**go_on_from_here, unknown={"ann": 4})
    service.stop()
    done = json.loads(cli(empty_dsn, "restore", file, "--json").stdout)
    assert done["kept"] is None
    service = Service(start_program, until, empty_dsn, servers.redis_url)
    service.until_shown(**before, unknown={})
    service.score("unknown", dan=2)
    service.score("reset", ann=1)
    service.until_shown(**before | {"reset": {"ann": 2}}, unknown={"dan": 2})
    cli(empty_dsn, "verify")
    service.stop()
    with Redis.from_url(servers.redis_url) as redis:
        assert redis.exists(keys.board("unknown")) == 1


def test_a_restore_that_nobody_told_of_is_told_and_mended(own_postgres, cli, start_program, until, servers):
    """A snapshot of the storage was put back: same cluster, same timeline, an older ledger."""
    dsn = own_postgres.dsn()
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()
    service = Service(start_program, until, dsn, servers.redis_url)
    service.score("s", ann=5)
    service.score("t", ann=5)
    service.until_shown(s={"ann": 5}, t={"ann": 5})
    name = conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(make_conninfo(dsn, dbname="postgres"), autocommit=True) as conn:
        ends = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s"
        service.stop()
        conn.execute(f"create database snapshot template {name}")
        service = Service(start_program, until, dsn, servers.redis_url)
        for delta in (1, 2):
            service.score("s", bob=delta)
            service.until_shown(s={"ann": 5, "bob": sum(range(delta + 1))})
        service.ask("DELETE", "/t")
        service.stop()
        conn.execute(ends, (name,))
        conn.execute(f"drop database {name}")
        conn.execute(f"alter database snapshot rename to {name}")
    service = Service(start_program, until, dsn, servers.redis_url)
    service.score("s", ann=1)
    worker = service.processes[1]
    lines = iter(worker.stderr.readline, "")
    assert any("is this one deposed or restored?" in line and "leaderboard restored" in line for line in lines)
    assert "leaderboard restored" in cli(dsn, "verify", "--repair", "--patience", "0", code=1).stdout
    assert "--yes" in cli(dsn, "restored", code=2).stderr
    cli(dsn, "restored", "--yes")
    service.until_shown(s={"ann": 6}, t={"ann": 5})
    cli(dsn, "verify")


def test_what_is_refused_and_what_is_left_of_it(dsn, empty_dsn, cli, start_program, servers, until, tmp_path):
    file = tmp_path / "board.backup"
    cli(dsn, "backup", file)
    assert "--force" in cli(dsn, "backup", file, code=2).stderr
    cli(dsn, "backup", file, "--force")
    assert "nothing to back up" in cli(empty_dsn, "backup", tmp_path / "none", code=1).stderr
    assert "can't write" in cli(dsn, "backup", tmp_path / "no" / "where", code=1).stderr
    assert "no file" in cli(empty_dsn, "restore", tmp_path / "none", code=1).stderr
    (tmp_path / "text").write_text("no backup")
    assert "pg_restore failed" in cli(empty_dsn, "restore", tmp_path / "text", code=1).stderr

    # Interrupted while it waits for a table.
    with psycopg.connect(dsn, autocommit=True) as watcher, psycopg.connect(dsn) as holder:
        holder.execute("lock table outbox")
        given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url}
        process = start_program("cli", "backup", str(tmp_path / "cut"), **given)
        waits = "select pid from pg_stat_activity where application_name = 'pg_dump' and wait_event_type = 'Lock'"
        until(lambda: watcher.execute(waits).fetchone(), "pg_dump waits")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.backup", "text"]

    from alembic import command

    command.downgrade(alembic_config(dsn), "0011")
    cli(dsn, "backup", file, "--force")
    done = cli(empty_dsn, "restore", file)
    assert f"schema {REVISION}, migrated from 0011" in done.stdout
    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute("update alembic_version set version_num = '9999'")
        databases = "select datname from pg_database where datname like %s"
        cli(empty_dsn, "backup", file, "--force")
        assert "take the later build" in cli(empty_dsn, "restore", file, "--replace", code=1).stderr
        assert conn.execute(databases, (f"{conn.info.dbname}_%",)).fetchall() == []
