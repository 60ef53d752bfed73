"""The worker's loop: batch after batch while there is work, polling while there is none, backing off in trouble.

Polling is the guarantee; a hint only makes an idle worker poll sooner. While batches are full a second lane begins the
next one before the last is committed: claims of one season's batch then overlap with what its predecessor still does
under the season's lock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import seasons
from shared.backoff import backoff_seconds
from shared.postgres import Pool
from shared.projection import Projection
from shared.reconciliation import WHAT_TO_DO, DeposedError, LateError, SeasonsUnreachableError, pass_late
from shared.scores import SeasonId
from worker.batch import Batch, BatchApplier, SeasonsLockedError
from worker.floor import Floor
from worker.pauses import Pauses
from worker.shares import Shares

TROUBLE = (psycopg.Error, RedisError, OSError, TimeoutError, LateError, SeasonsUnreachableError)
"""What infrastructure in trouble raises. It never costs an event an attempt."""

_PAUSE_SECONDS: Final = 0.008
"""After a batch that was not full: with fewer, larger batches an event costs less, and kept answers live longer."""

_FEW: Final = 64
_PAUSE_AFTER_FEW_SECONDS: Final = 0.025
"""While few events come, each batch costs nearly as much, and makes the API forget all the same what it keeps."""

log = structlog.get_logger()


class Rest(NamedTuple):
    """What lies between two batches, seconds: first so long whatever is heard, then so long or until a hint."""

    pause: float
    listen: float


class Loop:
    def __init__(
        self,
        applier: BatchApplier,
        pool: Pool,
        projection: Projection,
        floor: Floor,
        hint: asyncio.Event,
        *,
        batch_size: int,
        poll_seconds: float,
    ) -> None:
        self._applier = applier
        self._pool = pool
        self._projection = projection
        self._floor = floor
        self._hint = hint
        self._batch_size = batch_size
        self._poll_seconds = poll_seconds
        self._pauses = Pauses()
        self._more = asyncio.Event()
        self._lead_shares, self._help_shares = Shares(), Shares()
        self.last_turn = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Apply batches until `stop` is set; those under way are finished. Who sets `hint` knows of events."""
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._lead(stop))
            lanes.create_task(self._help(stop))
            await stop.wait()
            self._hint.set()
            self._more.set()

    async def _lead(self, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                rest = await self._turn()
                failures = 0
            except TROUBLE as error:
                failures += 1
                rest = Rest(backoff_seconds(failures, random.random()), 0.0)  # noqa: S311 - jitter
                log.warning(
                    "batch put off",
                    error=_told(error),
                    failures=failures,
                    retry_seconds=round(rest.pause, 3),
                )
            self.last_turn = time.monotonic()
            await wait(stop, rest.pause)
            if rest.listen:
                await wait(self._hint, rest.listen)

    async def _help(self, stop: asyncio.Event) -> None:
        """The second lane. What goes wrong here is rolled back and left to the first, with the seasons in trouble."""
        while not stop.is_set():  # asked before the wait: below, `more` may be cleared after `run` set it to stop us
            await self._more.wait()
            if stop.is_set():
                return
            self._more.clear()
            try:
                batch = await self._applier.apply(
                    floor=self._floor.value,
                    paused=self._pauses.in_trouble(),
                    shares=self._help_shares.candidates(),
                    on_full=self._more.set,
                )
                self._help_shares.took(batch, self._batch_size)
            except SeasonsLockedError:
                self._more.clear()  # by the first lane, perhaps
            except TROUBLE as error:
                log.warning("batch put off", error=_told(error), lane="second")
                self._more.clear()

    async def _turn(self) -> Rest:
        """One batch; returns the rest before the next."""
        now = time.monotonic()
        hinted = self._hint.is_set()
        self._hint.clear()  # before the batch: a hint that comes during it may be of events that it does not see
        shares = self._lead_shares.candidates()
        try:
            batch = await self._applier.apply(
                floor=self._floor.value, paused=self._pauses.paused(now), shares=shares, on_full=self._more.set
            )
            self._lead_shares.took(batch, self._batch_size)
        except LateError as error:
            log.info("batch late", error=str(error))
            self._pause(error.season_ids)
            try:
                await pass_late(self._pool, self._projection, error)
            except SeasonsUnreachableError as unreachable:
                _tell_if_deposed(unreachable)
                raise
            return Rest(0.0, 0.0)
        except SeasonsUnreachableError as error:
            self._put_off(error)
            if error.all_failed and not shares:
                raise  # to back off: what refuses all of them may refuse everything
            return Rest(0.0, 0.0)
        except SeasonsLockedError as error:
            await self._pause_locked(error.season_ids)
            return Rest(0.0, 0.0)
        if shares:
            return Rest(0.0, 0.0)  # what it found says nothing of the other seasons
        if batch.events:
            self._pauses.settle(now)
        return rest_after(batch, self._batch_size, self._poll_seconds, hinted=hinted)

    def _put_off(self, error: SeasonsUnreachableError) -> None:
        _tell_if_deposed(error)
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


def _tell_if_deposed(error: SeasonsUnreachableError) -> None:
    deposed = sorted(key for key, failure in error.failures.items() if isinstance(failure, DeposedError))
    if deposed:
        log.error(
            "board written by a later PostgreSQL: is this one deposed or restored?",
            do=WHAT_TO_DO,
            seasons=len(deposed),
            season_ids=deposed[:3],
        )


def rest_after(batch: Batch, batch_size: int, poll_seconds: float, *, hinted: bool) -> Rest:
    """A full batch says that more waits: go on at once. One that was not full is followed by another after a pause,
    an empty one by silence until the next poll or hint.

    `hinted`: the batch followed a hint. Where it came for nothing another worker has taken the events, and will take
    the next ones too: a pause bounds what idle workers cost at many hints a second.
    """
    pause = min(_PAUSE_SECONDS, poll_seconds)
    if batch.events >= batch_size:
        return Rest(0.0, 0.0)
    if batch.events:
        return Rest(pause if batch.events > _FEW else min(_PAUSE_AFTER_FEW_SECONDS, poll_seconds), 0.0)
    return Rest(pause, poll_seconds - pause) if hinted else Rest(0.0, poll_seconds)


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Return after `seconds`, or as soon as `event` is set."""
    if seconds <= 0:
        await asyncio.sleep(0)
        return
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _told(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
