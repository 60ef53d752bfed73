"""What a board as of a moment costs: a season of many players, a snapshot, and scores that came since.

Starts `leaderboard run` without a worker's snapshots, writes the season by SQL, makes snapshots itself, and asks over
HTTP, one request after the other. A few minutes; see `--help`.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import random
import statistics
import time
from collections.abc import Sequence
from typing import Final

import aiohttp
import psycopg

from bench.stack import Stack, service
from shared import snapshots

SEASON: Final = "past"
TABLES: Final = ("score_events", "snapshot_standings")

_CREATE: Final = """
insert into seasons (season_id, aggregation, sort_order, windows, tie_break) values (%s, %s, %s, %s, %s)
"""
_SCORES: Final = """
insert into score_events (season_id, epoch, user_id, delta)
select %s, 1, 'player-' || 1 + (random() * (%s - 1))::int, 1 + (random() * 1000000)::int from generate_series(1, %s)
"""
_PLAYERS: Final = """
insert into score_events (season_id, epoch, user_id, delta)
select %s, 1, 'player-' || number, 1 + (random() * 1000000)::int from generate_series(1, %s) as number
"""


async def now(stack: Stack) -> dt.datetime:
    (moment,) = await stack.ask("select clock_timestamp()")
    return moment  # type: ignore[no-any-return]


async def snapshot(stack: Stack) -> float:
    """Seconds that it took."""
    (last_id,) = await stack.ask("select max(id) from score_events")
    started = time.perf_counter()
    async with await psycopg.AsyncConnection.connect(stack.dsn(), autocommit=True) as conn:
        made = await snapshots.make(conn, await snapshots.of_season(conn, SEASON), last_id)  # type: ignore[arg-type]
    assert made
    return time.perf_counter() - started


async def measure(session: aiohttp.ClientSession, paths: Sequence[str]) -> tuple[float, float]:
    """Median and largest, milliseconds."""
    took = []
    for path in paths:
        started = time.perf_counter()
        async with session.get(path) as response:
            response.raise_for_status()
            await response.read()
        took.append((time.perf_counter() - started) * 1000)
    return statistics.median(took), max(took)


async def ask_all(stack: Stack, players: int, moment: dt.datetime, since: dt.datetime, requests: int) -> None:
    rng = random.Random(1)
    users = [f"player-{rng.randint(1, players)}" for _ in range(requests)]
    as_of, movement = f"asOf={moment:%Y-%m-%dT%H:%M:%S.%fZ}", f"movementSince={since:%Y-%m-%dT%H:%M:%S.%fZ}"
    board = f"/v1/seasons/{SEASON}/leaderboard"
    asked = {
        "top 10": [f"{board}/top?{as_of}"] * requests,
        "top 100, offset 100,000": [f"{board}/top?limit=100&offset=100000&{as_of}"] * requests,
        "rank": [f"{board}/rank?userId={user}&{as_of}" for user in users],
        "around, range 5": [f"{board}/around?userId={user}&{as_of}" for user in users],
        "top 100 with movement": [f"{board}/top?limit=100&{as_of}&{movement}"] * requests,
    }
    async with aiohttp.ClientSession(stack.url) as session:
        for name, paths in asked.items():
            median, largest = await measure(session, paths)
            print(f"  {name:<24}{median:>9.1f}{largest:>9.1f}")


async def run(players: int, later: Sequence[int], rules: Sequence[str], requests: int) -> None:
    async with service(SNAPSHOT_EVENTS=0, REQUEST_TIMEOUT_MS=60_000) as stack:
        insert = (
            "insert into seasons (season_id, aggregation, sort_order, windows, tie_break) values (%s, %s, %s, %s, %s)"
        )
        await stack.conn.execute(insert, (SEASON, *rules))
        await stack.conn.execute(_PLAYERS, (SEASON, players))
        await stack.conn.execute("vacuum analyze score_events")
        print(f"{'ms':<26}{'median':>9}{'most':>9}\n no snapshot yet, {players:,} scores")
        before = await now(stack)
        await ask_all(stack, players, before, before, 1)
        print(f"\nfirst snapshot of {players:,} players: {await snapshot(stack):.1f} s")
        first = await now(stack)
        await stack.conn.execute(_SCORES, (SEASON, players, 50_000))
        print(f"next one, 50,000 scores later: {await snapshot(stack):.1f} s")
        await stack.conn.execute("vacuum analyze snapshots")
        await stack.conn.execute("vacuum analyze snapshot_standings")
        for table in TABLES:
            (size, rows) = await stack.ask(f"select pg_total_relation_size('{table}'), count(*) from {table}")
            print(f"{table}: {size / rows:.0f} bytes a row")
        print(f"\n{'ms':<26}{'median':>9}{'most':>9}")
        for scores in (0, *later):
            if scores:
                await stack.conn.execute(_SCORES, (SEASON, players, scores))
                await stack.conn.execute("analyze score_events")
            print(f" {scores:,} scores more")
            await ask_all(stack, players, await now(stack), first, requests)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", type=int, default=1_000_000, help="default 1,000,000")
    parser.add_argument("--later", type=int, nargs="*", default=[50_000, 200_000], help="scores since the snapshot")
    parser.add_argument("--requests", type=int, default=20, help="of each kind, default 20")
    parser.add_argument("--rules", nargs=4, default=["sum", "desc", "false", "member"])
    arguments = parser.parse_args()
    asyncio.run(run(arguments.players, arguments.later, arguments.rules, arguments.requests))


if __name__ == "__main__":
    main()
