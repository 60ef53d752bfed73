"""How many live streams does one API process carry? Memory and processor time, and how soon each sees a change.

Starts `leaderboard run` with one API process on servers of its own, opens streams of one season, and adds points to its
best player. Prints a table; takes two minutes. See `--help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
import uvloop

from bench.processes import resident_megabytes
from bench.stack import Stack, service
from shared import open_files

SEASON: Final = "streams"
LEADER: Final = "leader"
START: Final = 1_000_000
BATCH: Final = 5000
AT_ONCE: Final = 100
"""Connections that are opened beside each other; a listening queue has room for more."""
SETTLE_SECONDS: Final = 1.0

_BEGUN: Final = b'"totalPlayers":'
_SCORE: Final = re.compile(rb'"userId":"leader","score":(\d+)')
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Listener(asyncio.Protocol):
    """One stream. `seen`: when which score of the best player came first, newest last."""

    def __init__(self, path: str, host: str) -> None:
        self._request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""
        self.began = asyncio.Event()
        self.lost = False
        self.seen: list[tuple[float, int]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        for found in _SCORE.finditer(data):
            self.seen.append((time.monotonic(), int(found[1])))
        if _BEGUN in data:
            self.began.set()
        self._rest = data[data.rfind(b"\n") + 1 :]

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self.began.set()

    def leave(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def opened(url: str, paths: Sequence[str]) -> list[Listener]:
    """A stream of each path, begun."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    listeners: list[Listener] = []
    for first in range(0, len(paths), AT_ONCE):
        some = [Listener(path, parts.netloc) for path in paths[first : first + AT_ONCE]]
        await asyncio.gather(
            *(loop.create_connection(lambda one=one: one, parts.hostname, parts.port) for one in some)  # type: ignore[misc]
        )
        await asyncio.gather(*(one.began.wait() for one in some))
        require_all(some)
        listeners += some
    return listeners


def require_all(listeners: Sequence[Listener]) -> None:
    if lost := sum(one.lost for one in listeners):
        raise SystemExit(f"{lost} of {len(listeners)} streams were lost")


async def fill(url: str, players: int) -> None:
    """A season of so many players and one far above them."""
    scores = [{"userId": LEADER, "delta": START}]
    scores += [{"userId": f"p{number:05}", "delta": number + 1} for number in range(players)]
    async with aiohttp.ClientSession(url) as session:
        for first in range(0, len(scores), BATCH):
            body = scores[first : first + BATCH]
            async with session.post(f"/v1/seasons/{SEASON}/scores/batch", json=body) as response:
                response.raise_for_status()


def processor_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def changed(url: str, listeners: list[Listener], score: int, rate: float, seconds: float) -> list[float]:
    """Add a point so many times a second; how long after its 202 each stream had each of them, in milliseconds."""
    known: list[float] = []
    before = [len(one.seen) for one in listeners]
    async with aiohttp.ClientSession(url) as session:
        started = time.monotonic()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            body = {"userId": LEADER, "delta": 1}
            async with session.post(f"/v1/seasons/{SEASON}/scores", json=body) as response:
                response.raise_for_status()
            known.append(time.monotonic())
    last = score + len(known)
    while any(one.seen[-1][1] < last and not one.lost for one in listeners):
        await asyncio.sleep(0.01)
    require_all(listeners)
    delays = []
    for one, first in zip(listeners, before, strict=True):
        reached = score
        for at, told in one.seen[first:]:
            delays += [max(0.0, (at - known[number - score - 1]) * 1000) for number in range(reached + 1, told + 1)]
            reached = max(reached, told)
    return delays


async def phase(stack: Stack, listeners: list[Listener], score: int, rate: float, seconds: float) -> dict[str, Any]:
    """One line of the table: the process under so many changes a second."""
    (pid,) = stack.apis()
    await asyncio.sleep(SETTLE_SECONDS)
    events = sum(len(one.seen) for one in listeners)
    used, started = processor_seconds(pid), time.monotonic()
    if rate:
        delays = await changed(stack.url, listeners, score, rate, seconds)
    else:
        delays = []
        await asyncio.sleep(seconds)
    elapsed = time.monotonic() - started
    found: dict[str, Any] = {
        "changes_per_second": rate,
        "events_per_second": round((sum(len(one.seen) for one in listeners) - events) / elapsed),
        "processor_percent": round(100 * (processor_seconds(pid) - used) / elapsed, 1),
    }
    if delays:
        cuts = statistics.quantiles(delays, n=100)
        found |= {f"p{cut}_ms": round(cuts[cut - 1], 1) for cut in (50, 90, 99)}
    return found


async def run(streams: int, rates: Sequence[float], seconds: float) -> dict[str, Any]:
    path = f"/v1/seasons/{SEASON}/leaderboard/stream?limit=10"
    of_players = [f"{path}&userId=p{number:05}" for number in range(streams)]
    of_seasons = [path.replace(SEASON, f"{SEASON}-{number}") for number in range(streams)]
    return {
        "streams": streams,
        "top 10": await measured([path] * streams, rates, seconds),
        "top 10 and the rank of a player each": await measured(of_players, rates, seconds),
        "top 10 of a season each": await measured(of_seasons, [], seconds),
    }


async def measured(paths: Sequence[str], rates: Sequence[float], seconds: float) -> dict[str, Any]:
    """A service of its own with these streams, without changes and at each rate."""
    score = START
    async with service(API_WORKERS=1, STREAMS_MAX=len(paths)) as stack:
        await fill(stack.url, len(paths))
        await stack.drained()
        (pid,) = stack.apis()
        before, began = resident_megabytes(pid), time.monotonic()
        listeners = await opened(stack.url, paths)
        opening = time.monotonic() - began
        phases = []
        for rate in (0, *rates):
            phases.append(await phase(stack, listeners, score, rate, seconds))
            score += round(rate * seconds)
            print(json.dumps(phases[-1]), file=sys.stderr)
        grown = resident_megabytes(pid) - before
        for one in listeners:
            one.leave()
    return {
        "opened_in_seconds": round(opening, 2),
        "kilobytes_per_stream": round(grown * 1024 / len(paths), 1),
        "phases": phases,
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['streams']} streams   changes/s   events/s   processor   p50, ms   p90, ms   p99, ms",
    ]
    for kind, found in result.items():
        if not isinstance(found, dict):
            continue
        memory, seconds = found["kilobytes_per_stream"], found["opened_in_seconds"]
        lines.append(f"{kind}: {memory} kB each, opened in {seconds} s")
        for one in found["phases"]:
            delays = [one.get(f"p{cut}_ms", "") for cut in (50, 90, 99)]
            told = f"{one['changes_per_second']:>25}{one['events_per_second']:>11}{one['processor_percent']:>10} %"
            lines.append(told + "".join(f"{delay:>10}" for delay in delays))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000, help="how many, default 2000")
    parser.add_argument("--rates", default="1,10", help="changes a second, default 1,10")
    parser.add_argument("--seconds", type=float, default=10, help="how long each rate takes, default 10")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()
    open_files.raise_limit()
    rates = [float(rate) for rate in arguments.rates.split(",")]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(arguments.streams, rates, arguments.seconds))
    print(json.dumps(result) if arguments.json else table(result))


if __name__ == "__main__":
    main()
