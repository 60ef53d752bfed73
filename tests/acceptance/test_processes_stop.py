"""SIGTERM and SIGINT of a single process: exit code 0, whatever it was doing."""

from __future__ import annotations

import signal

import httpx2
from ports import free_port


def ready(port):
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


def exit_codes(started):
    """Send each process its signal; what they exit with."""
    for process, number in started:
        process.send_signal(number)
    return [process.wait(15) for process, _ in started]


def test_while_they_serve(start_program, dsn, servers, until):
    given = {"POSTGRES_DSN": dsn, "REDIS_URL": servers.redis_url}
    ports = [free_port() for _ in range(4)]
    started = [
        (start_program("api", **given, API_PORT=ports[0], API_WORKERS=1), signal.SIGTERM),
        (start_program("api", **given, API_PORT=ports[1], API_WORKERS=1), signal.SIGINT),
        (start_program("api", **given, API_PORT=ports[2], API_WORKERS=2), signal.SIGINT),
        (start_program("worker", **given, WORKER_HEALTH_PORT=ports[3]), signal.SIGINT),
    ]
    until(lambda: all(ready(port) for port in ports), "all are ready")
    stream = f"http://127.0.0.1:{ports[2]}/v1/seasons/s/leaderboard/stream"
    with httpx2.stream("GET", stream, trust_env=False) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry: ")
        assert exit_codes(started) == [0, 0, 0, 0]
        assert list(lines)[-1] == ""  # whole to its end, not broken off


def test_while_they_wait_for_postgres(start_program, servers):
    given = {"POSTGRES_DSN": f"postgresql://127.0.0.1:{free_port()}/board", "REDIS_URL": servers.redis_url}
    started = [
        (start_program(name, **given), number)
        for name in ("api", "worker")
        for number in (signal.SIGTERM, signal.SIGINT)
    ]
    for process, _ in started:
        assert "waiting for PostgreSQL" in process.stderr.readline()
    assert exit_codes(started) == [0, 0, 0, 0]
