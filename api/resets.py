"""Season resets: one short transaction in PostgreSQL, then Redis is made to follow before the client hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import epochs, seasons
from shared.deadline import within
from shared.errors import DeadlineError, PostgresUnavailableError, RedisUnavailableError
from shared.postgres import Pool, renew_if_lost
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError, reconcile
from shared.scores import SeasonId
from shared.settings import ServiceSettings

_AT_ONCE: Final = 4
"""Resets may wait for a season's lock; the connections that scores need are not theirs to wait with."""

T = TypeVar("T")

log = structlog.get_logger()


class Ended(NamedTuple):
    """The epoch that a reset ended, or the last one before it where there was nothing to archive; None = there is
    none. `archived`: it stays readable."""

    epoch: int | None = None
    archived: bool = False


class Resets:
    def __init__(self, pool: Pool, projection: Projection, settings: ServiceSettings) -> None:
        self._pool = pool
        self._projection = projection
        self._deadline_seconds = settings.request_timeout_ms / 1000
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def reset(self, season_id: SeasonId, *, archived: bool = False) -> Ended:
        """Empty the season: scores accepted before never count again. Raises UnavailableError (503).

        `archived`: the epoch that ends stays readable; one that is open and has no score is not ended for that.
        After a 503 the reset may have happened; the board then empties within about a second of Redis's return,
        and asking again is right.
        """
        return await self._done(season_id, self._reset(season_id, archived=archived))

    async def follow(self, season_id: SeasonId) -> None:
        """Make the board follow a season whose next epoch has begun. Raises UnavailableError (503)."""
        await self._done(season_id, self._follow(season_id))

    async def _done(self, season_id: SeasonId, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._deadline_seconds, work)
        except TimeoutError as error:
            raise DeadlineError(
                f"the reset was not done within {self._deadline_seconds:g} s; ask again shortly"
            ) from error
        except (psycopg.Error, OSError) as error:
            await renew_if_lost(self._pool, error)
            log.warning("reset failed", season_id=season_id, error=str(error).strip())
            raise PostgresUnavailableError("the ledger does not answer; ask again shortly") from error
        except (RedisError, LateError, SeasonsUnreachableError) as error:
            log.warning("board did not follow a reset", season_id=season_id, error=str(error))
            raise RedisUnavailableError(
                "the season is reset, but its board can't be emptied at the moment; it will be, or ask again shortly"
            ) from error

    async def _reset(self, season_id: SeasonId, *, archived: bool) -> Ended:
        async with self._turns:
            ended = await self._end_epoch(season_id, archived=archived)
            await reconcile(self._pool, self._projection, season_id)
            return ended

    async def _follow(self, season_id: SeasonId) -> None:
        async with self._turns:
            await reconcile(self._pool, self._projection, season_id)

    async def _end_epoch(self, season_id: SeasonId, *, archived: bool) -> Ended:
        async with self._pool.connection() as conn, conn.transaction():
            fences = await seasons.lock(conn, [season_id])
            if not fences:
                return Ended()  # nothing was ever accepted there
            epoch = fences[0].epoch
            if archived and await epochs.is_untouched(conn, season_id):
                # Asked again, as a rule, by a client that did not get the answer.
                before = await epochs.page(conn, season_id, epoch, 1)
                return Ended(before[0].epoch, before[0].archived) if before else Ended()
            await seasons.begin_next_epoch(conn, season_id, archived=archived)
            return Ended(epoch, archived)
