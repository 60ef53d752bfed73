"""Letting scores leave the time windows as they age: batches without events, in the same fence as those with.

Like a batch it takes the seasons' locks and new tokens, changes standings and shows them, in one transaction; whatever
interrupts it, the minutes are still due.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import psycopg
import structlog

from shared import seasons, window_minutes
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import SeasonsUnreachableError, project, retried_when_late, update_of
from shared.scores import SeasonId
from worker.batch import Reach, by_season

SWEEP_STEPS: Final = ("due", "left", "left_projected", "left_committed")
"""The steps after which a test may have the worker killed."""

_AT_ONCE: Final = 1000
"""Minutes of players that one transaction lets leave; it holds their seasons' locks for some 20 ms."""

log = structlog.get_logger()


class Sweep:
    """Lets go of all that is due. `reach` is told each step of SWEEP_STEPS."""

    def __init__(self, pool: Pool, projection: Projection, reach: Reach) -> None:
        self._pool = pool
        self._projection = projection
        self._reach = reach

    async def run(self) -> None:
        """One round. Seasons in trouble are left to the next one; the last trouble is raised at the end.

        Raises psycopg.Error or RedisError when a server does not answer.
        """
        started, total = time.monotonic(), 0
        left_alone: dict[SeasonId, Exception] = {}
        while True:
            attempt = partial(self._some, list(left_alone))
            try:
                minutes = await retried_when_late(self._pool, self._projection, attempt)
            except psycopg.errors.LockNotAvailable:
                break  # somebody rebuilds a board: the next round is a second away
            except SeasonsUnreachableError as error:
                left_alone |= error.failures
                continue
            total += minutes
            if not minutes:
                break
        if total:
            log.debug("scores left windows", minutes=total, duration_ms=round((time.monotonic() - started) * 1000, 1))
        if left_alone:
            raise SeasonsUnreachableError(left_alone)

    async def _some(self, left_alone: list[SeasonId]) -> int:
        async with self._pool.connection() as conn:
            season_ids = await window_minutes.seasons_due(conn, left_alone, _AT_ONCE)
            if not season_ids:
                return 0
            async with conn.transaction():
                fences = await seasons.lock(conn, season_ids)
                tokens = await seasons.advance(conn, season_ids)
                self._reach("due")
                left = await window_minutes.leave(conn, fences, _AT_ONCE)
                self._reach("left")
                changes = by_season(left.standings)
                updates = [update_of(fence, tokens[fence.season_id], changes[fence.season_id]) for fence in fences]
                await project(conn, self._projection, updates, rebuild_large=False)
                self._reach("left_projected")
        self._reach("left_committed")
        return left.minutes
