"""Writing and showing in bulk: the batch endpoint against the ledger's limit, draining against the boards' limit."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Final

from bench.client import BATCH, Batch, encoded_batch
from bench.figures import Target
from bench.limits import LedgerLimit, ProjectionLimit
from bench.measures import Bench, Sample
from shared import ledger
from shared.scores import PLAIN, Rules, Score, SeasonId, UserId

_PLAYERS: Final = 100_000
_HIGHEST: Final = 100_000
_DISTINCT_BATCHES: Final = 20
_IN_STATEMENT: Final = 500
_LAST: Final = "select coalesce(max(id), 0) from outbox"
_DONE: Final = "select status = 'done' from outbox where id = %s"


class BatchEndpoint:
    name = "batch"
    title = "POST scores/batch, 5,000 a request"
    unit = "scores/s"
    limit = "pgbench, 500 rows a statement"
    target: Target | None = Target("median", 60_000)

    def __init__(self, ledger_limit: LedgerLimit) -> None:
        self._limit = ledger_limit
        self._batches: list[Batch] = []

    async def sample(self, bench: Bench, number: int) -> Sample:
        limit = await self._limit.rows_per_second(500, bench.plan.seconds)
        season_id = f"batch:{number}"
        source = random.Random(self.name)
        self._batches = self._batches or [_points(source, BATCH) for _ in range(_DISTINCT_BATCHES)]
        started = time.monotonic()
        sent = 0

        def until_time_is_up() -> Iterator[Batch]:
            nonlocal sent
            for batch in cycle(self._batches):
                if time.monotonic() >= started + bench.plan.seconds:
                    return
                sent += batch.scores
                yield batch

        await bench.client.add_batches(season_id, until_time_is_up())
        elapsed = time.monotonic() - started
        await bench.stack.drained()
        return Sample(sent / elapsed, limit)


def _points(source: random.Random, number: int) -> Batch:
    return encoded_batch([(f"p{source.randrange(_PLAYERS):08d}", 1) for _ in range(number)])


class SmallStatements:
    """The ledger's limit with as many rows in a statement as single requests share under load."""

    name = "ledger"
    title = "limit: pgbench, 32 rows a statement"
    unit = "scores/s"
    limit = ""
    target: Target | None = None

    def __init__(self, ledger_limit: LedgerLimit) -> None:
        self._limit = ledger_limit

    async def sample(self, bench: Bench, number: int) -> Sample:  # noqa: ARG002 - a measure is told
        return Sample(await self._limit.rows_per_second(32, bench.plan.seconds))


class Drain:
    """From when the workers may begin on a backlog until none of it is pending."""

    unit = "events/s"
    limit = "ZADD, 500 members a command"

    def __init__(
        self,
        name: str,
        seasons: int,
        workers: int,
        limit: ProjectionLimit,
        target: Target | None,
        *,
        rules: Rules = PLAIN,
    ) -> None:
        self.name = name
        self.title = f"drain, {workers} worker{'s'[: workers - 1]}, {seasons} season{'s'[: seasons - 1]}"
        if rules != PLAIN:
            self.title += f", {rules.aggregation}, windows, {rules.tie_break}"
        self.target = target
        self._rules = rules
        self._seasons = [f"{name}:{number}" for number in range(seasons)]
        self._workers = workers
        self._limit = limit

    async def sample(self, bench: Bench, number: int) -> Sample:
        limit = await self._limit.members_per_second(bench.plan.seconds)
        async with AsyncExitStack() as more:
            for _ in range(1, self._workers):
                await more.enter_async_context(bench.stack.another_worker())
            async with bench.stack.workers_paused():
                await self._fill(bench, random.Random(number))
                (last,) = await bench.stack.ask(_LAST)
                started = time.monotonic()
            # The last event by its key: asking for what is pending would read past all that is done.
            while not (await bench.stack.ask(_DONE, last))[0]:
                await bench.stack.breathe()
            await bench.stack.drained()
            elapsed = time.monotonic() - started
        return Sample(bench.plan.backlog / elapsed, limit)

    async def _fill(self, bench: Bench, source: random.Random) -> None:
        """Seasons mixed, as they are under load, and in statements like those of the api."""
        adds_up = self._rules.aggregation == "sum"
        conn = bench.stack.conn
        await ledger.create_seasons(conn, self._seasons, self._rules)
        for first in range(0, bench.plan.backlog, _IN_STATEMENT):
            number = min(_IN_STATEMENT, bench.plan.backlog - first)
            scores = [
                Score(
                    SeasonId(source.choice(self._seasons)),
                    UserId(f"p{source.randrange(_PLAYERS):08d}"),
                    1 if adds_up else source.randrange(1, _HIGHEST),
                    absolute=not adds_up,
                )
                for _ in range(number)
            ]
            await ledger.append(conn, scores)
        bench.client.accounts.accepted(self.name, bench.plan.backlog)
