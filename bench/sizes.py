"""What a board's size costs: the same questions to boards of ten players up to ten million.

Their ledgers are written by SQL, one event a player, and their boards built from them as after a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from bench import traffic
from bench.figures import Target
from bench.measures import Bench
from bench.population import ROWS, Board
from bench.traffic import Draw

QUESTIONS: Final[dict[str, Callable[[Board], Draw]]] = {
    "rank": traffic.rank,
    "around": traffic.around,
    "top100": lambda board: traffic.top(board, 100),
}
TIMES_SLOWER: Final = Target("ratio", 1.3, most=True)
"""Of the largest board against that of COMPARED_TO, for rank and top."""
COMPARED_TO: Final = 10_000

_EVENTS: Final = f"insert into score_events (season_id, epoch, user_id, delta) {ROWS}"
_STANDINGS: Final = (
    f"insert into standings (season_id, epoch, user_id, score, token) select rows.*, 1 from ({ROWS}) rows"
)
_SEASON: Final = "insert into seasons (season_id, token) values (%s, 1)"


class SizeSample(msgspec.Struct):
    question: str
    size: int
    rate: float
    latency_ms: dict[str, float]


def boards(sizes: Sequence[int]) -> list[Board]:
    return [Board(f"size:{size}", size) for size in sizes]


async def build(bench: Bench, board: Board) -> None:
    """A season as it is after each of its players got a score."""
    conn = bench.stack.conn
    # A worker's audit would begin on the board as soon as the season is there.
    async with bench.stack.workers_paused():
        async with conn.transaction():
            await conn.execute(_SEASON, [board.season_id])
            await conn.execute(_EVENTS, board.sql_values())
            await conn.execute(_STANDINGS, board.sql_values())
        await bench.stack.command("rebuild", "--season", board.season_id)
    bench.client.accounts.accepted(board.season_id, board.size)
    await bench.checker.look(board, times=10)


async def sample(bench: Bench, measured: Sequence[Board]) -> list[SizeSample]:
    """One round: each question to each board."""
    samples = []
    for question, draw in QUESTIONS.items():
        for board in measured:
            file = bench.folder / f"{question}-{board.size}.requests"
            if not file.exists():
                traffic.write_file(traffic.drawn(draw(board), question, bench.plan.distinct_requests), file)
            async with bench.checker.beside(board):
                load = await bench.generator.load(bench.stack.url, file, bench.plan.sizes_seconds)
            samples.append(SizeSample(question, board.size, round(load.rate, 1), load.latency_ms))
    return samples
