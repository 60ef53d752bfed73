"""The endpoints under closed-loop load, each beside bare uvicorn that answers the same bytes to the same requests."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench import traffic
from bench.figures import Target
from bench.generators import Load
from bench.measures import Bench, Sample
from bench.paced import Orders
from bench.pacing import Pacing, pacing
from bench.population import Board
from bench.traffic import Draw, Request

BUSY_RATE: Final = 1000.0
"""Scores a second that arrive while a busy board is read."""

LONG_ID_PLAYERS: Final = 10_000
_IN_EACH_OF_MANY: Final = 20


class Endpoint:
    """Requests that `draw` makes, about `board`. `writes_to`: the season that scores go to. `keyed`: with keys."""

    unit = "requests/s"
    limit = "bare uvicorn"

    def __init__(
        self,
        name: str,
        title: str,
        board: Board,
        draw: Draw,
        *,
        ratio: float | None = None,
        writes_to: str | None = None,
        keyed: bool = False,
        busy: bool = False,
    ) -> None:
        self.name = name
        self.title = title
        self.target = None if ratio is None else Target("ratio", ratio)
        self._board = board
        self._writes_to = writes_to
        self._keyed = keyed
        self._busy = busy
        self._draw = draw
        self._requests: Sequence[Request] = ()

    def requests(self, bench: Bench) -> Sequence[Request]:
        """What is sent, over and over."""
        self._requests = self._requests or traffic.drawn(self._draw, self.name, bench.plan.distinct_requests)
        return self._requests

    async def sample(self, bench: Bench, number: int) -> Sample:
        file = bench.folder / f"{self.name}.requests"
        if not file.exists():
            traffic.write_file(self.requests(bench), file)
        # By turns, so that whoever comes second has no advantage over all rounds.
        if number % 2:
            load, arriving = await self._load(bench, file)
            limit = await self._load_limit(bench, file)
        else:
            limit = await self._load_limit(bench, file)
            load, arriving = await self._load(bench, file)
        return Sample(load.rate, limit.rate, load.latency_ms, limit.latency_ms, arriving)

    async def _load(self, bench: Bench, file: Path) -> tuple[Load, float | None]:
        keys = uuid.uuid4().hex if self._keyed else ""
        if self._writes_to == self._board.season_id or self._busy:
            self._board.written = True
        arriving = None
        async with AsyncExitStack() as beside:
            if self._busy:
                arriving = await beside.enter_async_context(self._scores_arriving(bench))
            await beside.enter_async_context(bench.checker.beside(self._board))
            load = await bench.generator.load(bench.stack.url, file, bench.plan.seconds, keys=keys)
        if self._writes_to is not None:
            bench.client.accounts.loaded(self._writes_to, load)
            await bench.stack.drained()
        return load, arriving.rate if arriving else None

    async def _load_limit(self, bench: Bench, file: Path) -> Load:
        keys = uuid.uuid4().hex if self._keyed else ""
        return await bench.generator.load(bench.bare_url, file, bench.plan.seconds, keys=keys)

    @asynccontextmanager
    async def _scores_arriving(self, bench: Bench) -> AsyncIterator[Pacing]:
        file = points_file(bench, self._board)
        async with pacing(orders(bench, file, BUSY_RATE)) as load:
            yield load
        bench.client.accounts.accepted(self._board.season_id, load.paced.accepted)
        await bench.stack.drained()


def points_file(bench: Bench, board: Board) -> Path:
    """A file of requests that give a point each to players of the board."""
    file = bench.folder / f"points-{board.season_id}.requests"
    if not file.exists():
        traffic.write_file(traffic.drawn(traffic.point(board), file.name, bench.plan.distinct_requests), file)
    return file


def orders(bench: Bench, file: Path, rate: float) -> Orders:
    address = urlsplit(bench.stack.url)
    return Orders(str(address.hostname), address.port or 80, rate, str(file))


def endpoints(board: Board, long_ids: Board, seasons: int) -> list[Endpoint]:
    """All that is measured so; `long_ids` is a board of players with ids of 128 characters."""
    top10, top100 = traffic.top(board, 10), traffic.top(board, 100)
    rank, around, point = traffic.rank(board), traffic.around(board), traffic.point(board)
    reads = traffic.one_of([top10, rank, around])
    written = board.season_id

    def mix(share: float) -> Draw:
        return traffic.mixed(reads, point, share)

    return [
        Endpoint("top10", "top 10", board, top10, ratio=0.9),
        Endpoint("top100", "top 100", board, top100, ratio=0.9),
        Endpoint("top10-busy", "top 10, 1,000 scores/s arriving", board, top10, ratio=0.7, busy=True),
        Endpoint("top100-busy", "top 100, 1,000 scores/s arriving", board, top100, ratio=0.7, busy=True),
        Endpoint("rank", "rank", board, rank, ratio=0.5),
        Endpoint("around", "around, range 5", board, around, ratio=0.4),
        Endpoint("post", "POST score", board, point, ratio=0.33, writes_to=written),
        Endpoint("post-keyed", "POST score, Idempotency-Key", board, point, writes_to=written, keyed=True),
        Endpoint("post-many", f"POST score, {seasons:,} seasons", board, many(seasons), writes_to="many"),
        Endpoint("post-long", "POST score, long ids", long_ids, traffic.point(long_ids), writes_to=long_ids.season_id),
        Endpoint("rank-long", "rank, long ids", long_ids, traffic.rank(long_ids)),
        Endpoint("mix90", "90 % reads, 10 % scores", board, mix(0.1), writes_to=written),
        Endpoint("mix50", "50 % reads, 50 % scores", board, mix(0.5), writes_to=written),
    ]


def many(seasons: int) -> Draw:
    """One point for a player of one of so many seasons."""
    return lambda source: traffic.score(
        f"many:{source.randrange(seasons)}", f"p{source.randrange(_IN_EACH_OF_MANY)}", 1
    )
