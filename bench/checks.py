"""Whether answers are right: bodies against what the boards are made of, in the end everything against the ledger."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from bench.accounts import account_of
from bench.client import Client
from bench.population import SPACING, Board
from bench.stack import Stack
from bench.traffic import AROUND_RANGE
from bench.wrong import BrokenError

_BESIDE_PAUSE_SECONDS: Final = 0.1
_TOPS: Final = (10, 100)

_LEDGER: Final = "select season_id, count(*) from score_events group by season_id"
_NOT_DONE: Final = "select status, count(*) from outbox where status <> 'done' group by status"


class Checker:
    """Asks about players drawn by chance. `answers`: how many bodies were found right."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._source = random.Random("checks")
        self.answers = 0

    async def look(self, board: Board, times: int = 1) -> None:
        """Rank, around and top are as they must be, else BrokenError."""
        for _ in range(times):
            number = self._source.randrange(board.size)
            await self.rank(board, number)
            await self.around(board, number)
            await self.top(board, self._source.choice(_TOPS))

    async def rank(self, board: Board, number: int) -> None:
        user_id = board.user_id(number)
        path = f"/v1/seasons/{board.season_id}/leaderboard/rank?userId={user_id}"
        answer = await self._client.get(path)
        self._compare(board, path, answer, {"seasonId": board.season_id, "userId": user_id}, [(answer, number)])

    async def around(self, board: Board, number: int) -> None:
        user_id, rank = board.user_id(number), board.rank(number)
        path = f"/v1/seasons/{board.season_id}/leaderboard/around?userId={user_id}&range={AROUND_RANGE}"
        answer = await self._client.get(path)
        ranks = range(max(1, rank - AROUND_RANGE), min(board.size, rank + AROUND_RANGE) + 1)
        # Below the last of them stand players of whom nothing is known.
        known = [item for item in answer["items"] if item["rank"] <= board.size]
        said = {"seasonId": board.season_id, "userId": user_id, "range": AROUND_RANGE}
        self._compare(board, path, answer, said, _paired(path, known, [board.at_rank(rank) for rank in ranks]))

    async def top(self, board: Board, limit: int) -> None:
        path = f"/v1/seasons/{board.season_id}/leaderboard/top?limit={limit}"
        answer = await self._client.get(path)
        numbers = [board.at_rank(rank) for rank in range(1, min(limit, board.size) + 1)]
        items = answer["items"][: board.size]
        self._compare(board, path, answer, {"seasonId": board.season_id}, _paired(path, items, numbers))

    @asynccontextmanager
    async def beside(self, board: Board) -> AsyncIterator[None]:
        """Looks, slowly, while the block runs."""

        async def keep_looking() -> None:
            while True:
                await self.look(board)
                await asyncio.sleep(_BESIDE_PAUSE_SECONDS)

        looking = asyncio.create_task(keep_looking())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])
        if not looking.cancelled():
            looking.result()

    def _compare(
        self,
        board: Board,
        path: str,
        answer: dict[str, Any],
        said: dict[str, Any],
        players: Sequence[tuple[dict[str, Any], int]],
    ) -> None:
        wrong = {name: answer.get(name) for name, value in said.items() if answer.get(name) != value}
        if wrong:
            raise BrokenError(f"GET {path}: {wrong} where {said} is right")
        for item, number in players:
            low = board.score(number)
            right = range(low, low + SPACING) if board.written else (low,)
            if (
                item["userId"] != board.user_id(number)
                or item["score"] not in right
                or item.get("rank", board.rank(number)) != board.rank(number)
            ):
                raise BrokenError(
                    f"GET {path}: {item} where {board.user_id(number)} on rank {board.rank(number)} with {low} points"
                    f"{' or a few more' if board.written else ''} is right"
                )
        self.answers += 1


def _paired(path: str, items: list[dict[str, Any]], numbers: list[int]) -> list[tuple[dict[str, Any], int]]:
    if len(items) != len(numbers):
        raise BrokenError(f"GET {path}: {len(items)} players where {len(numbers)} are right")
    return list(zip(items, numbers, strict=True))


async def settle_accounts(stack: Stack, client: Client) -> int:
    """Each account's 202s are in the ledger, no more and no fewer, and nothing failed; returns the ledger's rows."""
    await stack.drained()
    rows: Counter[str] = Counter()
    for season_id, number in await (await stack.conn.execute(_LEDGER)).fetchall():
        rows[account_of(season_id)] += number
    for account, (least, most) in client.accounts.ranges().items():
        if not least <= rows[account] <= most:
            raise BrokenError(
                f"season {account}: {rows[account]:,} scores in the ledger, {least:,} to {most:,} were accepted"
            )
    left: dict[str, int] = dict(await (await stack.conn.execute(_NOT_DONE)).fetchall())
    if left:
        raise BrokenError(f"events that are not done: {left}")
    return rows.total()


async def verified(stack: Stack) -> int:
    """Ledger, standings and boards are equal, season by season; returns the number of seasons."""
    report = await stack.command("verify")
    if not report["equal"]:
        differing = [season for season in report["seasons"] if not season["equal"]]
        raise BrokenError(f"{len(differing)} seasons differ, first {differing[0]}")
    return len(report["seasons"])
