"""Every process is restarted, one after the other, under load: no request is lost, and each score counts once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx2
import psycopg
import pytest
from ports import free_port
from redis import Redis

from cli.migrations import ROOT

SEASON = "load-rolling"
_BETWEEN = 200  # scores that are stored before the next restart: the load is there, and reaches who came back
_LONGEST_SECONDS = 60


class Restarted:
    """A program that listens on a port of its own, and can be told to end and started again there."""

    def __init__(self, start, until, port_setting):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._start = lambda: start(**{port_setting: port})
        self._until = until
        self._process = self._start()

    def until_ready(self):
        self._until(self._ready, f"{self.url} is ready")

    def restart(self):
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(_LONGEST_SECONDS) == 0
        self._process = self._start()
        self.until_ready()

    def _ready(self):
        assert self._process.poll() is None
        try:
            return httpx2.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture
def given(dsn, servers):
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushall()
    # While one API starts, two of four tries go to the other: no 503 there may come of a slow machine.
    return {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "REQUEST_TIMEOUT_MS": 60_000}


@pytest.fixture
def processes(start_program, given, until):
    """Two APIs, of one process and of two, and a worker, all of them ready."""
    started = [
        Restarted(partial(start_program, "api", **given, API_WORKERS=1), until, "API_PORT"),
        Restarted(partial(start_program, "api", **given, API_WORKERS=2), until, "API_PORT"),
        Restarted(partial(start_program, "worker", **given), until, "WORKER_HEALTH_PORT"),
    ]
    for one in started:
        one.until_ready()
    return started


@pytest.fixture
def load(tmp_path):
    """Start k6 on addresses of the API; `told` waits for its end and returns its exit code and its metrics."""
    k6 = shutil.which("k6") or shutil.which("k6", path=Path(sys.executable).parent)
    summary, log = tmp_path / "summary.json", tmp_path / "k6.log"
    argv = [k6, "run", "--quiet", "--address", "", "--summary-export", summary, ROOT / "k6" / "rolling.js"]
    running = []

    def start(*urls):
        env = {**os.environ, "BASE_URLS": ",".join(urls), "SEASON_ID": SEASON, "K6_NO_USAGE_REPORT": "true"}
        with log.open("w") as out:  # a line for each request that has to be sent again
            running.append(subprocess.Popen(argv, env=env, stdout=out, stderr=subprocess.STDOUT))

        def told():
            code = running[0].wait(_LONGEST_SECONDS)
            assert code == 0, log.read_text()[-3000:]
            return json.loads(summary.read_text())["metrics"]

        return told

    yield start
    for one in running:
        one.kill()
        one.wait()


def test_no_request_is_lost_and_each_score_counts_once(processes, load, given, program, until):
    first, second, worker = processes
    with psycopg.connect(given["POSTGRES_DSN"], autocommit=True) as conn:

        def stored():
            return conn.execute("select count(*) from score_events where user_id <> 'stop'").fetchone()[0]

        told = load(first.url, second.url)
        for one in (first, second, worker, first, second):
            beyond = stored() + _BETWEEN
            until(lambda beyond=beyond: stored() >= beyond, "scores are stored")
            one.restart()
        stop = httpx2.post(
            f"{first.url}/v1/seasons/{SEASON}/scores",
            json={"userId": "stop", "delta": 1},
            trust_env=False,
            timeout=_LONGEST_SECONDS,
        )
        assert stop.status_code == 202
        metrics = told()
        assert metrics["requests_sent_again"]["count"] > 0
        assert stored() == metrics["scores_accepted"]["count"] > 5 * _BETWEEN
    verified = program("cli", "verify", **given)
    assert verified.returncode == 0, verified.stdout + verified.stderr
