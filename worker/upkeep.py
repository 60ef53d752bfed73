"""What a worker does beside its batches: find the floor, compare idle boards, delete what is no longer needed.

Each is a periodic task of its own; several workers doing the same at once do no harm.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import outbox, player_entries, purges, seasons, strays
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError, fits, reconcile
from worker.floor import Floor
from worker.loop import TROUBLE, wait

_AUDIT_CHUNK: Final = 1000
_MICROSECONDS: Final = 1_000_000
_AHEAD_SECONDS: Final = 60.0
_HELD_SECONDS: Final = 60.0
"""No vacuum, and no number of workers, keeps the list of new rows to itself for as long as this."""

log = structlog.get_logger()


async def every(seconds: float, task: Callable[[], Awaitable[float | None]], stop: asyncio.Event) -> None:
    """Run `task` about every `seconds` (±10 %, so that processes do not march in step) until `stop` is set.

    Sooner where it returns in how many seconds it has something to do. Whatever it raises, it is run again, and what
    else the worker does goes on.
    """
    troubled = broken = False
    while not stop.is_set():
        asked = None
        try:
            asked = await task()
            troubled = broken = False
        except TROUBLE as error:
            # Once, not each time: the loop and the probes tell of lasting trouble too.
            if not troubled:
                log.warning("upkeep put off", task=task.__qualname__, error=str(error).strip() or type(error).__name__)
            troubled = True
        except Exception:
            if not broken:
                log.exception("upkeep failed", task=task.__qualname__)
            broken = True
        pause = seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
        await wait(stop, pause if asked is None else min(pause, max(asked, 0.0)))


class FloorSweep:
    def __init__(self, pool: Pool, floor: Floor) -> None:
        self._pool = pool
        self._floor = floor

    async def run(self) -> None:
        async with self._pool.connection() as conn:
            self._floor.found(await outbox.lowest_pending(conn))


class Audit:
    """Notices boards that Redis lost or rolled back, without waiting for a new score to arrive there."""

    def __init__(self, pool: Pool, projection: Projection) -> None:
        self._pool = pool
        self._projection = projection
        self._told_of_clock = False

    async def run(self) -> None:
        """Compare every season's board with its fence, cheaply and unlocked; look closer where they differ.

        A season that can't be repaired does not keep the others from being compared; the first such error is raised
        at the end.
        """
        errors: list[Exception] = []
        ahead = 0.0
        # PostgreSQL first: what it says is committed, Redis had it before.
        async for fences in seasons.fence_pages(self._pool, _AUDIT_CHUNK):
            answers = await self._projection.inspect([(fence.season_id, fence.rules) for fence in fences])
            ahead = max(ahead, *(fence.token / _MICROSECONDS - time.time() for fence in fences))
            for fence, answer in zip(fences, answers, strict=True):
                if isinstance(answer, RedisError):
                    errors.append(answer)
                elif not fits(fence, answer.stored):
                    errors += await self._look_closer(fence)
        self._tell_of_clock(ahead)
        if errors:
            raise errors[0]

    def _tell_of_clock(self, ahead: float) -> None:
        """Once, not each time. Tokens are moments of PostgreSQL's clock, and say what time it is for windows."""
        if ahead > _AHEAD_SECONDS and not self._told_of_clock:
            log.warning("clock behind what it said before, windows stand still until it is there", seconds=round(ahead))
        self._told_of_clock = ahead > _AHEAD_SECONDS

    async def _look_closer(self, fence: seasons.Fence) -> list[Exception]:
        try:
            await reconcile(self._pool, self._projection, fence.season_id)
        except psycopg.errors.LockNotAvailable:
            log.debug("audit leaves a season to who holds it", season_id=fence.season_id)
        except (LateError, SeasonsUnreachableError) as error:
            return [error]
        return []


class PlayerIndex:
    """Moves new rows of the ledger into the index on players, see `shared.player_entries`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._held_since: float | None = None

    async def run(self) -> None:
        """Move in what waits. Another worker or a vacuum that is at it does the same: it is left to them, unless none
        of this process's turns came through for a minute; then psycopg.errors.LockNotAvailable.
        """
        try:
            async with self._pool.connection() as conn:
                await player_entries.move_in(conn)
        except psycopg.errors.LockNotAvailable:
            now = time.monotonic()
            if self._held_since is None:
                self._held_since = now
            if now - self._held_since >= _HELD_SECONDS:
                raise
            log.debug("index on players left to who is at it")
        else:
            self._held_since = None


class Purge:
    """Deletes what is no longer needed; the rules are those of `shared.purges` and `shared.strays`."""

    def __init__(
        self,
        pool: Pool,
        projection: Projection,
        retention_hours: float,
        key_retention_hours: float,
        archive_retention_days: float = 0,
    ) -> None:
        self._pool = pool
        self._projection = projection
        self._purge = purges.Purge(
            pool,
            retention_hours=retention_hours,
            key_retention_hours=key_retention_hours,
            archive_retention_days=archive_retention_days,
        )

    async def run(self) -> None:
        rows: Counter[str] = Counter()
        async for deleted in self._purge.run():
            rows[deleted.what] += deleted.rows
        for what, count in rows.items():
            if count:
                log.info("purged", what=what, rows=count)
        dropped = await strays.drop(self._pool, self._projection)
        if dropped:
            log.warning("boards of seasons that PostgreSQL lost dropped", seasons=len(dropped), season_ids=dropped[:3])
