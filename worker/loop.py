"""The worker's loop: batch after batch while there is work, polling while there is none, backing off in trouble.

Polling is the guarantee; nothing here depends on being told.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import seasons
from shared.backoff import backoff_seconds
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import DeposedError, LateError, SeasonsUnreachableError, pass_late
from shared.scores import SeasonId
from worker.batch import Batch, BatchApplier, SeasonsLockedError
from worker.floor import Floor
from worker.pauses import Pauses

TROUBLE = (psycopg.Error, RedisError, OSError, TimeoutError, LateError, SeasonsUnreachableError)
"""What infrastructure in trouble raises. It never costs an event an attempt."""

log = structlog.get_logger()


class Loop:
    def __init__(
        self,
        applier: BatchApplier,
        pool: Pool,
        projection: Projection,
        floor: Floor,
        *,
        batch_size: int,
        poll_seconds: float,
    ) -> None:
        self._applier = applier
        self._pool = pool
        self._projection = projection
        self._floor = floor
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._pauses = Pauses()
        self.last_turn = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply batches until `stop` is set; the batch under way is finished."""
        failures = 0
        while not stop.is_set():
            try:
                wait_seconds = await self._turn()
                failures = 0
            except TROUBLE as error:
                failures += 1
                wait_seconds = backoff_seconds(failures, random.random())  # noqa: S311 - jitter
                log.warning(
                    "batch put off",
                    error=_told(error),
                    failures=failures,
                    retry_seconds=round(wait_seconds, 3),
                )
            self.last_turn = time.monotonic()
            await wait(stop, wait_seconds)

    async def _turn(self) -> float:
        """One batch; returns how long to wait before the next, seconds."""
        now = time.monotonic()
        try:
            batch = await self._applier.apply(floor=self._floor.value, paused=self._pauses.paused(now))
        except LateError as error:
            log.info("batch late", error=str(error))
            self._pause(error.season_ids)
            await pass_late(self._pool, self._projection, error)
            return 0.0
        except SeasonsUnreachableError as error:
            self._put_off(error)
            if error.all_failed:
                raise  # to back off: what refuses all of them may refuse everything
            return 0.0
        except SeasonsLockedError as error:
            await self._pause_locked(error.season_ids)
            return 0.0
        if batch.events:
            self._pauses.settle(now)
        return next_poll_seconds(batch, self._batch_size, self._poll_seconds)

    def _put_off(self, error: SeasonsUnreachableError) -> None:
        deposed = sorted(key for key, failure in error.failures.items() if isinstance(failure, DeposedError))
        if deposed:
            log.error(
                "board written by a later PostgreSQL: is this one deposed or restored?",
                seasons=len(deposed),
                season_ids=deposed[:3],
            )
        log.warning("seasons put off", error=str(error))
        self._pause(error.failures)

    async def _pause_locked(self, season_ids: Sequence[SeasonId]) -> None:
        """Somebody holds a season for long (a rebuild): leave it to them, go on with the others."""
        async with self._pool.connection() as conn, conn.transaction():
            held = set(season_ids) - await seasons.lockable(conn, season_ids)
        if not held:
            # A row inside one of them, which can't be told from the lock: leaving a random half alone lets batches
            # without it come about.
            held = set(random.sample(season_ids, (len(season_ids) + 1) // 2))
        log.info("seasons held elsewhere", seasons=len(held), season_ids=sorted(held)[:3])
        self._pause(held)

    def _pause(self, season_ids: Iterable[SeasonId]) -> None:
        self._pauses.pause(season_ids, time.monotonic(), random.random())  # noqa: S311 - jitter


def next_poll_seconds(batch: Batch, batch_size: int, poll_seconds: float) -> float:
    """A full batch says that more waits: go on at once. Otherwise wait the longer the emptier it was."""
    return poll_seconds * (1 - min(batch.events, batch_size) / batch_size)


async def wait(stop: asyncio.Event, seconds: float) -> None:
    """Return after `seconds`, or as soon as `stop` is set."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


def _told(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
