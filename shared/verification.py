"""Comparing ledger, standings and boards, season by season, beside a service at full load.

Never a false alarm: a season whose board can't be judged yet (a reset under way, a wipe that the audit has not reached)
is put aside and looked at again, until the patience is over; only then it is reported as unsettled or behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import psycopg
from redis.exceptions import ResponseError

from shared.board_check import BehindError, BoardCheck, UnsettledError
from shared.findings import Difference, Report
from shared.ledger_check import compare_standings, repair_standings
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError, reconcile
from shared.scores import SeasonId, UserId

_ROUND_SECONDS: Final = 0.2
_LINGER_SECONDS: Final = 2.0
"""How long one season's check waits in the middle for players to settle, before it is put aside."""


class Verification:
    """`tell` hears how many players were compared since it was told last."""

    def __init__(
        self,
        pool: Pool,
        projection: Projection,
        *,
        repair: bool,
        patience_seconds: float,
        tell: Callable[[int], None] = lambda _players: None,
    ) -> None:
        self._pool = pool
        self._projection = projection
        self._repair = repair
        self._patience_seconds = patience_seconds
        self._tell = tell

    async def run(self, season_ids: Sequence[SeasonId]) -> AsyncIterator[Report]:
        """Compare the seasons, and with `repair` make them equal; yields each season's report once it is final.

        Raises psycopg.Error or RedisError when a server does not answer; what was repaired until then stays.
        """
        aside: list[Report] = []
        for season_id in season_ids:
            report = Report(season_id)
            await self._check_standings(report)
            await self._check_board(report)
            if report.unsettled is None:
                yield report
            else:
                aside.append(report)
        give_up_at = time.monotonic() + self._patience_seconds
        while aside and time.monotonic() < give_up_at:
            await asyncio.sleep(_ROUND_SECONDS)
            again, aside = aside, []
            for report in again:
                await self._check_board(report)
                if report.unsettled is None:
                    yield report
                else:
                    aside.append(report)
        for report in aside:
            await self._give_up(report)
            yield report

    async def _check_standings(self, report: Report) -> None:
        async with self._pool.connection() as conn:
            hopeless = await compare_standings(conn, report)
        if self._repair and report.differences.total() > hopeless:
            await repair_standings(self._pool, self._projection, report.season_id)
            report.repaired += report.differences.total() - hopeless

    async def _check_board(self, report: Report) -> UnsettledError | None:
        if not self._repair:
            report.forget_board()
        check = BoardCheck(
            self._pool,
            self._projection,
            report,
            repair=self._repair,
            patience_seconds=min(_LINGER_SECONDS, self._patience_seconds),
            pace=self._told,
        )
        try:
            await check.run()
        except UnsettledError as error:
            report.unsettled = str(error)
            return error
        except (ResponseError, SeasonsUnreachableError) as error:
            report.unsettled = f"Redis refuses: {error}"
            return None
        report.unsettled = None
        return None

    async def _told(self, players: int) -> None:
        self._tell(players)

    async def _give_up(self, report: Report) -> None:
        """The last look at a board that did not settle by itself; with `repair` it is settled."""
        error = await self._check_board(report)
        if not isinstance(error, BehindError):
            return
        report.note(Difference("board behind", UserId(""), None, None))
        if not self._repair:
            return
        try:
            await reconcile(self._pool, self._projection, report.season_id)
        except (LateError, SeasonsUnreachableError, psycopg.errors.LockNotAvailable) as failure:
            report.unsettled = str(failure).strip()
            return
        report.repaired += 1
        await self._check_board(report)
