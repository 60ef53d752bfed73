"""/metrics of processes: several behind one port count together, one that died keeps what it had counted."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx2
import pytest
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

PROCESSES = 3
TOP = "/v1/seasons/s/leaderboard/top"


def children_of(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {child for child in map(int, found) if "spawn_main" in command_of(child)}


def command_of(pid):
    """Nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def api(start_program, until, dsn, servers):
    port = free_port()
    given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url, "API_PORT": port, "API_WORKERS": PROCESSES}
    process = start_program("api", **given)
    process.url = f"http://127.0.0.1:{port}"

    def lives():
        try:
            return httpx2.get(f"{process.url}/healthz", trust_env=False).status_code == 200
        except httpx2.TransportError:
            return False

    until(lives, "the API answers")
    return process


def ask(api, path):
    """On a connection of its own: any of the processes takes it."""
    return httpx2.get(f"{api.url}{path}", trust_env=False)


def counted(api):
    families = {family.name: family for family in text_string_to_metric_families(ask(api, "/metrics").text)}
    requests = {
        sample.labels["route"]: sample.value
        for sample in families["leaderboard_http_request_duration_seconds"].samples
        if sample.name.endswith("_count") and sample.labels["status"] == "200"
    }
    (pools,) = families["leaderboard_pool_max"].samples
    return requests.get("/v1/seasons/{sid}/leaderboard/top", 0), pools.value


def test_several_processes_count_together(api, until):
    until(lambda: len(children_of(api.pid)) == PROCESSES, "all processes are there")
    for _ in range(30):
        assert ask(api, TOP).status_code == 200
    # What another process counted is there within a second.
    until(lambda: counted(api) == (30, PROCESSES * 50), "all requests are counted, whichever process tells")

    os.kill(killed := min(children_of(api.pid)), signal.SIGKILL)
    until(lambda: killed not in (found := children_of(api.pid)) and len(found) == PROCESSES, "another takes its place")
    until(lambda: counted(api) == (30, PROCESSES * 50), "its counts stay, what it had open is gone")
