"""What seasons do by themselves: they are reset when their schedule says so, and their end is noted as it comes.

Each in one transaction, under the season's lock, in which what is due is looked at once more: whoever comes second, or
comes back after its death, finds nothing to do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Final, Literal, TypeAlias

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import epochs, reset_schedules, rewards, seasons
from shared.postgres import REFUSED, Connection, Pool
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError, reconcile
from shared.scores import SeasonId
from shared.settling import is_settled
from worker.batch import Reach

SCHEDULE_STEPS: Final = ("schedule_due", "schedule_reset", "schedule_fired", "schedule_shown", "end_noted")
"""The steps after which a test may have the worker killed."""

_PAGE: Final = 100
_WAIT_SECONDS: Final = 1.0
"""How long a round goes on waiting for seasons that somebody holds; beyond that at most a lock's patience, 0.5 s."""

_SETTLING_SECONDS: Final = 1.0
"""How long a round waits for the ledger; a transaction that adds scores takes milliseconds."""
_PAUSE_SECONDS: Final = 0.01

_Due: TypeAlias = Callable[[Connection, list[SeasonId], int], Awaitable[list[SeasonId]]]
_Lock: TypeAlias = Callable[[Connection, list[SeasonId]], Awaitable[Collection[object]]]
_Work: TypeAlias = Callable[[Connection, SeasonId], Awaitable[bool]]

log = structlog.get_logger()


class ScheduledResets:
    """Resets what is due. `reach` is told each step of SCHEDULE_STEPS."""

    def __init__(self, pool: Pool, projection: Projection, reach: Reach) -> None:
        self._pool = pool
        self._projection = projection
        self._reach = reach

    async def run(self) -> float | None:
        """One round; returns in how many seconds the next moment comes, None: there is none.

        A season that can't be reset, or shown, does not keep the others from it; the first such error is raised in the
        end.
        """
        errors: list[Exception] = []
        async for season_id in _done(self._pool, reset_schedules.due, self._fire, errors):
            self._reach("schedule_fired")
            try:
                await reconcile(self._pool, self._projection, season_id)
            except psycopg.errors.LockNotAvailable:
                log.debug("a reset by schedule is left to the audit to show", season_id=season_id)
            except (RedisError, LateError, SeasonsUnreachableError) as error:
                errors.append(error)
            self._reach("schedule_shown")
        if errors:
            raise errors[0]
        async with self._pool.connection() as conn:
            return await reset_schedules.seconds_until_due(conn)

    async def _fire(self, conn: Connection, season_id: SeasonId) -> bool:
        found = await reset_schedules.claim(conn, season_id)
        if found is None:
            return False
        self._reach("schedule_due")
        if not found.over:
            await seasons.begin_next_epoch(conn, season_id, "schedule", archived=found.schedule.archive)
            self._reach("schedule_reset")
        await reset_schedules.note_fired(conn, season_id, found)
        told = {"due_at": str(found.at), "next_at": str(found.next_at), "over": found.over}
        log.info("reset by schedule", season_id=season_id, **told)
        return not found.over


class SeasonEnds:
    """Notes the end of seasons in whose final ranks somebody is interested."""

    def __init__(self, pool: Pool, reach: Reach) -> None:
        self._pool = pool
        self._reach = reach

    async def run(self) -> None:
        """One round; raises as ScheduledResets does."""
        errors: list[Exception] = []
        async for season_id in _done(self._pool, _settled_ends, self._note, errors):
            log.info("season ended", season_id=season_id)
        if errors:
            raise errors[0]

    async def _note(self, conn: Connection, season_id: SeasonId) -> bool:
        archived = await rewards.archives_at_end(conn, season_id)
        if archived is None:
            return False
        open_before = not await epochs.was_never_open(conn, season_id)
        if open_before:
            await epochs.end(conn, season_id, "end", archived=archived)
        await rewards.put_end(conn, season_id, None)
        self._reach("end_noted")
        return open_before


async def _settled_ends(conn: Connection, left_alone: list[SeasonId], limit: int) -> list[SeasonId]:
    """`rewards.ended`, first those whose epoch was open. The others only seem never to have been, until scores that
    were on their way as their season's end was set are in the ledger: where a transaction lasts, in a later round."""
    in_doubt: list[SeasonId] = []
    while found := await rewards.ended(conn, [*left_alone, *in_doubt], limit):
        if certain := [season_id for season_id in found if not await epochs.was_never_open(conn, season_id)]:
            return certain
        in_doubt += found
    return in_doubt[:limit] if in_doubt and await _settles(conn) else []


async def _settles(conn: Connection) -> bool:
    """Whether all is in the ledger that has begun by now, or soon is. Nobody's transaction is waited for to its end:
    those of commands that compare or export may take minutes."""
    row = await (await conn.execute("select clock_timestamp()")).fetchone()
    assert row is not None
    until = time.monotonic() + _SETTLING_SECONDS
    while not await is_settled(conn, row[0]):
        if time.monotonic() > until:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)
    return True


async def _done(pool: Pool, due: _Due, work: _Work, errors: list[Exception]) -> AsyncIterator[SeasonId]:
    """Do the work for each season that is due, in a transaction of its own that has the season's lock; yields each one
    for which it did something, once that is committed.

    Seasons that somebody holds are waited for behind all others, some of them in this round, the rest in later ones.
    """
    tried: list[SeasonId] = []
    held: list[SeasonId] = []
    while page := await _page(pool, due, tried):
        tried += page
        for season_id in page:
            outcome = await _attempt(pool, work, season_id, seasons.lockable, errors)
            if outcome == "held":
                held.append(season_id)
            elif outcome == "done":
                yield season_id
    # One that is busy is had within milliseconds; one that is held for longer must not come first in each round.
    random.shuffle(held)
    until = time.monotonic() + _WAIT_SECONDS
    for season_id in held:
        if time.monotonic() > until:
            return
        if await _attempt(pool, work, season_id, seasons.lock, errors) == "done":
            yield season_id


async def _page(pool: Pool, due: _Due, tried: list[SeasonId]) -> list[SeasonId]:
    async with pool.connection() as conn:
        return await due(conn, tried, _PAGE)


async def _attempt(
    pool: Pool, work: _Work, season_id: SeasonId, lock: _Lock, errors: list[Exception]
) -> Literal["done", "nothing", "held"]:
    try:
        async with pool.connection() as conn, conn.transaction():
            if not await lock(conn, [season_id]):
                return "held"
            return "done" if await work(conn, season_id) else "nothing"
    except psycopg.errors.LockNotAvailable:
        return "held"
    except REFUSED as error:
        errors.append(error)
        return "nothing"
