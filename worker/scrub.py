"""Comparing every board with its standings, player by player, at a pace that nobody feels.

The audit compares what a board says of itself. This finds what that can't show: an old copy of the sorted set put back
with as many players, a score changed by hand, bits that rotted.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import psycopg
import structlog
from redis.exceptions import ResponseError

from shared import seasons
from shared.board_check import BoardCheck, UnsettledError
from shared.findings import Report
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError, rebuild
from shared.scores import SeasonId
from worker.loop import wait

_CHUNK: Final = 1000
_SEASON_COSTS: Final = 20
"""A season with nobody in it costs as much time as comparing so many players."""

_LEFT_ALONE: Final = (UnsettledError, LateError, SeasonsUnreachableError, psycopg.errors.LockNotAvailable)

log = structlog.get_logger()


class _StoppedError(Exception):
    """The worker stops: whatever is under way is left as it is, each repair is a transaction of its own."""


class Scrub:
    """Goes round all seasons, about `players_per_second`, and sends again what is wrong; `stop` ends a round early."""

    def __init__(self, pool: Pool, projection: Projection, players_per_second: int, stop: asyncio.Event) -> None:
        self._pool = pool
        self._projection = projection
        self._players_per_second = players_per_second
        self._stop = stop

    async def run(self) -> None:
        """One round. A season in trouble or behind is left to the audit and looked at in the next round.

        Raises RedisError or psycopg.Error when a server does not answer.
        """
        with contextlib.suppress(_StoppedError):
            await self._go_round()

    async def _go_round(self) -> None:
        async for fences in seasons.fence_pages(self._pool, _CHUNK):
            for fence in fences:
                await self._scrub(fence.season_id)
                await self._pace(_SEASON_COSTS)

    async def _scrub(self, season_id: SeasonId) -> None:
        report = Report(season_id)
        check = BoardCheck(self._pool, self._projection, report, repair=True, patience_seconds=0.0, pace=self._pace)
        try:
            await check.run()
        except UnicodeDecodeError:
            # A member that no player's id can be; what can't be read can't be removed one by one either.
            players = await rebuild(self._pool, self._projection, season_id, lambda _staged: None)
            log.warning("board held what is no text and was built anew", season_id=season_id, players=players)
        except (*_LEFT_ALONE, ResponseError) as error:
            log.debug("scrub leaves a season for now", season_id=season_id, error=str(error).strip())
        if report.differences:
            log.warning(
                "board differed from its standings and was mended",
                season_id=season_id,
                players=report.differences.total(),
                first=[difference._asdict() for difference in report.named[:3]],
            )

    async def _pace(self, players: int) -> None:
        await wait(self._stop, players / self._players_per_second)
        if self._stop.is_set():
            raise _StoppedError
