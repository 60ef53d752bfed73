"""Letting scores leave the time windows as they age: batches without events, in the same fence as those with.

Like a batch it takes the seasons' locks and new tokens, changes standings and shows them, in one transaction; whatever
interrupts it, the minutes are still due.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import psycopg
import structlog

from shared import seasons, window_minutes
from shared.postgres import REFUSED, Pool
from shared.projection import Projection
from shared.reconciliation import SeasonsUnreachableError, project, retried_when_late, update_of
from shared.scores import SeasonId
from worker.batch import Reach, by_season

SWEEP_STEPS: Final = ("due", "left", "left_projected", "left_committed")
"""The steps after which a test may have the worker killed."""

_FEWEST: Final = 1
_FIRST: Final = 250
_MOST: Final = 2000
"""Minutes of players that one transaction lets leave. Each is computed from all of its player's minutes, a few or
thousands: how many at once is found out."""
_LONG_SECONDS: Final = 0.1
"""As long as a transaction should hold its seasons' locks at most."""

log = structlog.get_logger()


class _LeftAloneError(Exception):
    """A season can't be swept in this round; where it was not alone in its transaction, the others may be."""

    def __init__(self, season_ids: Sequence[SeasonId], reason: Exception) -> None:
        super().__init__(str(reason))
        self.season_ids = season_ids
        self.reason = reason


@dataclass
class _Round:
    minutes: int = 0
    trouble: dict[SeasonId, Exception] = field(default_factory=dict)
    held: set[SeasonId] = field(default_factory=set)
    one_by_one: bool = False

    def leave_alone(self, error: _LeftAloneError) -> None:
        if isinstance(error.reason, psycopg.errors.LockNotAvailable):
            self.held.update(error.season_ids)
        elif len(error.season_ids) > 1:
            self.one_by_one = True
        else:
            self.trouble[error.season_ids[0]] = error.reason


class Sweep:
    """Lets go of all that is due. `reach` is told each step of SWEEP_STEPS."""

    def __init__(self, pool: Pool, projection: Projection, reach: Reach) -> None:
        self._pool = pool
        self._projection = projection
        self._reach = reach
        self._limit = _FIRST

    async def run(self) -> None:
        """One round. Seasons in trouble are left to the next one, a second away; those that are not just held by
        somebody are named at the end.

        Raises SeasonsUnreachableError; psycopg.Error or RedisError when a server does not answer.
        """
        started, this = time.monotonic(), _Round()
        while await self._turn(this):
            pass
        if this.minutes:
            told = {"minutes": this.minutes, "duration_ms": round((time.monotonic() - started) * 1000, 1)}
            log.debug("scores left windows", **told)
        if this.trouble:
            raise SeasonsUnreachableError(this.trouble)

    async def _turn(self, this: _Round) -> bool:
        """One transaction; returns whether there may be more to do."""
        attempt = partial(self._some, [*this.trouble, *this.held], one_by_one=this.one_by_one)
        try:
            minutes = await retried_when_late(self._pool, self._projection, attempt)
        except SeasonsUnreachableError as error:
            this.trouble |= error.failures
        except _LeftAloneError as error:
            this.leave_alone(error)
        except psycopg.errors.QueryCanceled:
            if self._limit == _FEWEST:
                raise
            self._limit = max(_FEWEST, self._limit // 8)
        else:
            this.minutes += minutes
            return minutes > 0
        return True

    async def _some(self, left_alone: list[SeasonId], *, one_by_one: bool) -> int:
        async with self._pool.connection() as conn:
            due = await window_minutes.seasons_due(conn, left_alone, self._limit)
            if not due:
                return 0
            async with conn.transaction():
                # No season is kept waiting for another one: those that nobody holds, else one that somebody does.
                season_ids = sorted(await seasons.lockable(conn, due)) or due[:1]
                if one_by_one:
                    season_ids = season_ids[:1]
                try:
                    fences = await seasons.lock(conn, season_ids)
                    tokens = await seasons.advance(conn, season_ids)
                    self._reach("due")
                    began = time.monotonic()
                    left = await window_minutes.leave(conn, fences, self._limit)
                    seconds = time.monotonic() - began
                except (psycopg.errors.LockNotAvailable, *REFUSED) as error:
                    raise _LeftAloneError(season_ids, error) from error
                self._reach("left")
                changes = by_season(left.standings)
                updates = [update_of(fence, tokens[fence.season_id], changes[fence.season_id]) for fence in fences]
                await project(conn, self._projection, updates, rebuild_large=False)
                self._reach("left_projected")
        self._reach("left_committed")
        self._limit = limit_after(self._limit, seconds)
        return left.minutes


def limit_after(limit: int, seconds: float) -> int:
    """How many minutes to let leave at once, after so many took so long."""
    if seconds > _LONG_SECONDS:
        return max(_FEWEST, limit // 2)
    return min(_MOST, limit * 2) if seconds < _LONG_SECONDS / 4 else limit
