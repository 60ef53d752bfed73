"""Half an hour of mixed load: does the memory of the processes stay where it is?"""

from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Final

import msgspec

from bench import traffic
from bench.accounts import Accounts
from bench.checks import Checker, settle_accounts, verified
from bench.client import client_of
from bench.figures import Target
from bench.generators import Generator, Load
from bench.loading import Tell, load_board
from bench.measures import Bench
from bench.plan import Plan
from bench.population import Board
from bench.stack import Stack, service

_EVERY_SECONDS: Final = 5.0
_WRITE_SHARE: Final = 0.1
MOST_MEGABYTES: Final = Target("MB", 120.0, most=True)
"""Of a process of the api."""


class Moment(msgspec.Struct):
    """RSS of each process of each part, MB."""

    seconds: float
    megabytes: dict[str, list[float]]


class Soak(msgspec.Struct):
    minutes: float
    requests: int
    rate: float
    latency_ms: dict[str, float]
    samples: list[Moment]


async def soak(plan: Plan, minutes: float, generator: Generator, tell: Tell) -> Soak:
    """Nine reads to one score for so long; answers are checked beside it and everything afterwards."""
    tell("starting the service")
    async with service() as stack, client_of(stack.url, Accounts()) as client:
        bench = Bench(plan, stack, client, Checker(client), generator, stack.folder)
        board = Board("board", plan.players)
        await load_board(bench, board, tell)
        board.written = True
        reads = traffic.one_of([traffic.top(board, 10), traffic.rank(board), traffic.around(board)])
        mixed = traffic.mixed(reads, traffic.point(board), _WRITE_SHARE)
        file = stack.folder / "mixed.requests"
        traffic.write_file(traffic.drawn(mixed, "soak", plan.distinct_requests), file)
        async with bench.checker.beside(board):
            load, samples = await _watched(stack, generator, file, minutes * 60, tell)
        client.accounts.loaded(board.season_id, load)
        await settle_accounts(stack, client)
        await verified(stack)
    return Soak(minutes, load.requests, round(load.rate, 1), load.latency_ms, samples)


async def _watched(
    stack: Stack, generator: Generator, file: Path, seconds: float, tell: Tell
) -> tuple[Load, list[Moment]]:
    samples = []
    started = time.monotonic()
    loading = asyncio.create_task(generator.load(stack.url, file, seconds))
    try:
        while not loading.done():
            samples.append(Moment(round(time.monotonic() - started, 1), stack.resident_megabytes()))
            tell(f"RSS, MB: {samples[-1].megabytes}")
            await asyncio.wait([loading], timeout=min(_EVERY_SECONDS, seconds / 8))
    finally:
        loading.cancel()
        await asyncio.wait([loading])
    return loading.result(), samples


def told(found: Soak) -> list[str]:
    """The second quarter against the last, as the first still warms up."""
    quarter = len(found.samples) // 4
    lines = [f"{found.requests:,} requests in {found.minutes:g} minutes, {found.rate:,.0f}/s, none failed"]
    lines.append(f"{'RSS, MB, median of':<20}{'second quarter':>16}{'last quarter':>16}{'most':>8}")
    for part, megabytes in found.samples[0].megabytes.items():
        for number in range(len(megabytes)):
            values = [moment.megabytes[part][number] for moment in found.samples]
            early, late = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
            verdict = ("reached" if MOST_MEGABYTES.reached(max(values)) else "missed") if part == "api" else ""
            name = f"{part} {number + 1}"
            lines.append(f"{name:<20}{early:>16.1f}{late:>16.1f}{max(values):>8.1f}  {verdict}".rstrip())
    return lines
