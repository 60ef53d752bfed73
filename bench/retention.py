"""Does the service stay as it is under full load for long? Claims, backlog and table sizes while rows come and go.

Starts `leaderboard run` with retentions of a minute, writes as fast as wrk can, resets one season every half minute,
and looks every few seconds. Writes docs/benchmarks/retention.json and .svg. Needs wrk; see `--help`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp

from bench import traffic
from bench.generators import Load, find_generator
from bench.population import Board
from bench.processes import ROOT
from bench.stack import Stack, service

RESULTS: Final = ROOT / "docs" / "benchmarks"
SEASONS: Final = 4
PLAYERS: Final = 10_000
DISTINCT_REQUESTS: Final = 50_000
RETENTION_HOURS: Final = 1 / 60
RESET_SECONDS: Final = 30
TABLES: Final = ("outbox", "score_events", "idempotency_keys", "standings")

Sample: TypeAlias = dict[str, Any]

# As a worker claims; rolled back, so that it takes nothing from it.
CLAIM = """
explain (analyze, format json) select id, season_id from outbox
where status = 'pending' and id >= %s order by id limit 500 for update skip locked
"""
STATE = """
select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float, coalesce(min(id), 0)
from outbox where status = 'pending'
"""


async def sample(stack: Stack, started: float) -> Sample:
    pending, oldest_seconds, lowest = await stack.ask(STATE)
    async with stack.conn.transaction(force_rollback=True):
        (plan,) = await stack.ask(CLAIM, lowest)
    sizes = {table: (await stack.ask("select pg_total_relation_size(%s)", table))[0] for table in TABLES}
    return {
        "seconds": round(time.monotonic() - started, 1),
        "pending": pending,
        "oldest_seconds": round(oldest_seconds, 3),
        "claim_ms": round(plan[0]["Execution Time"], 3),
        "megabytes": {table: round(size / 2**20, 1) for table, size in sizes.items()},
    }


async def reset_seasons(url: str) -> None:
    async with aiohttp.ClientSession(url) as session:
        number = 0
        while True:
            await asyncio.sleep(RESET_SECONDS)
            number = (number + 1) % SEASONS
            async with session.delete(f"/v1/seasons/soak-{number}") as response:
                response.raise_for_status()


async def run(seconds: int, every: float, connections: int) -> dict[str, Any]:
    generator = find_generator("wrk", connections)
    points = traffic.one_of([traffic.point(Board(f"soak-{number}", PLAYERS)) for number in range(SEASONS)])
    samples: list[Sample] = []
    retentions = {"OUTBOX_RETENTION_HOURS": RETENTION_HOURS, "IDEMPOTENCY_RETENTION_HOURS": RETENTION_HOURS}
    async with service(**retentions) as stack:
        file = stack.folder / "points.requests"
        traffic.write_file(traffic.drawn(points, "retention", DISTINCT_REQUESTS), file)
        resetting = asyncio.create_task(reset_seasons(stack.url))
        started = time.monotonic()
        loading = asyncio.create_task(generator.load(stack.url, file, seconds, keys=uuid.uuid4().hex))
        try:
            while not loading.done():
                samples.append(await sample(stack, started))
                print(json.dumps(samples[-1]), file=sys.stderr)
                await asyncio.wait([loading, resetting], timeout=every, return_when=asyncio.FIRST_COMPLETED)
                if resetting.done():
                    resetting.result()
        finally:
            resetting.cancel()
            loading.cancel()
            await asyncio.wait([resetting, loading])
        load: Load = loading.result()
        await stack.drained()
        (failed,) = await stack.ask("select count(*) from outbox where status = 'failed'")
        if failed:
            raise SystemExit(f"{failed} events failed")
    return {"load": {"requests": load.requests, "seconds": round(load.seconds, 1)}, "samples": samples}


def told(result: dict[str, Any]) -> Iterator[str]:
    """The second quarter of the run against the last: flat means equal."""
    samples = result["samples"]
    quarter = len(samples) // 4
    parts = samples[quarter : 2 * quarter], samples[-quarter:]
    yield f"{result['load']['requests']:,} scores in {result['load']['seconds']} s, no error"
    yield f"{'median of':<24}{'second quarter':>16}{'last quarter':>16}"
    rows: dict[str, Callable[[Sample], float]] = {
        "claim, ms": lambda one: one["claim_ms"],
        "oldest pending, s": lambda one: one["oldest_seconds"],
        **{f"{table}, MB": partial(_megabytes, table) for table in TABLES},
    }
    for name, value in rows.items():
        early, late = (statistics.median(map(value, part)) for part in parts)
        yield f"{name:<24}{early:>16.2f}{late:>16.2f}"


def _megabytes(table: str, one: Sample) -> float:
    return float(one["megabytes"][table])


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    samples = result["samples"]
    minutes = [one["seconds"] / 60 for one in samples]
    figure, (claims, sizes) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
    claims.plot(minutes, [one["claim_ms"] for one in samples], label="claim of 500, ms")
    claims.plot(minutes, [one["oldest_seconds"] * 1000 for one in samples], label="oldest pending, ms")
    claims.set_yscale("log")
    for table in TABLES:
        sizes.plot(minutes, [one["megabytes"][table] for one in samples], label=f"{table}, MB")
    sizes.set_xlabel("minutes")
    for axes in (claims, sizes):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
        axes.set_ylim(bottom=0 if axes is sizes else None)
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"{result['load']['requests']:,} scores in {result['load']['seconds'] / 60:.0f} minutes, retention 1 minute"
    )
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long, default 10")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples, default 5")
    parser.add_argument("--connections", type=int, default=64, help="connections of wrk, default 64")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, write no files")
    arguments = parser.parse_args()
    result = asyncio.run(run(round(arguments.minutes * 60), arguments.every, arguments.connections))
    if arguments.json:
        print(json.dumps(result))
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "retention.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(result, RESULTS / "retention.svg")
    print("\n".join(told(result)))


if __name__ == "__main__":
    main()
