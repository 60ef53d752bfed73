"""Seals epochs that ended: their final ranks, from the ledger, once all is in it that was accepted.

Beside the batches, over a connection of its own whose statements may take minutes. Whatever interrupts it, or however
many workers do it at once, an epoch is sealed once or not yet.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Final

import psycopg
import structlog

from shared import sealing
from shared.postgres import REFUSED, Connection, Pool
from shared.sealing import ChangedMeanwhileError, Unsealed
from shared.settling import is_settled
from worker.batch import Reach

SEAL_STEPS: Final = ("seal_claimed", "seal_ranked", "seal_noted", "seal_committed")
"""The steps after which a test may have the worker killed."""

_REST: Final = 20
"""A look at all that is pending, 0.2 s per million events, is followed by a pause that many times as long."""
_LEFT_ALONE_SECONDS: Final = 30.0
"""How long an epoch that can't be sealed is left alone, so that it does not keep a server busy."""

log = structlog.get_logger()


class Sealer:
    """`reach` is told each step of SEAL_STEPS."""

    def __init__(self, pool: Pool, sealing_pool: Pool, reach: Reach) -> None:
        """`sealing_pool`: connections whose statements may take long."""
        self._pool = pool
        self._sealing_pool = sealing_pool
        self._reach = reach
        self._seen: dict[Unsealed, dt.datetime] = {}
        self._left_alone: dict[Unsealed, float] = {}
        self._look_at = 0.0

    async def run(self) -> None:
        """One round: seal what is ready. What is not, is left to the next one.

        Raises psycopg.Error: the first one that an epoch met, after the others were sealed.
        """
        async with self._pool.connection() as conn:
            ready = await self._ready(conn)
        errors: list[Exception] = []
        for each in ready:
            try:
                await self._seal(each)
            except ChangedMeanwhileError as error:
                log.info("sealing begins anew", season_id=each.season_id, epoch=each.epoch, reason=str(error))
            except (*REFUSED, psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
                self._left_alone[each] = time.monotonic() + _LEFT_ALONE_SECONDS
                errors.append(error)
        if errors:
            raise errors[0]

    async def _ready(self, conn: Connection) -> Sequence[Unsealed]:
        """Epochs whose scores are all in the ledger and done.

        When an epoch ended does not say until when scores came for it: a transaction that began later may not have
        seen it end yet. Whoever begins after we saw it does.
        """
        found, moment = await sealing.unsealed(conn)
        self._left_alone = {each: until for each, until in self._left_alone.items() if each in found}
        self._seen = {each: self._seen.get(each, moment) for each in found if moment is not None}
        if not found or time.monotonic() < self._look_at:
            return ()
        settled = {moment: await is_settled(conn, moment) for moment in set(self._seen.values())}
        now = time.monotonic()
        ready = [each for each in found if settled[self._seen[each]] and self._left_alone.get(each, 0.0) <= now]
        if not ready:
            return ()
        quiet = await sealing.quiet(conn, ready)
        self._look_at = now + _REST * (time.monotonic() - now)
        return quiet

    async def _seal(self, each: Unsealed) -> None:
        started = time.monotonic()
        async with self._sealing_pool.connection() as conn, conn.transaction():
            claimed = await sealing.claim(conn, each.season_id, each.epoch)
            if claimed is None:
                return
            self._reach("seal_claimed")
            players = await sealing.rank(conn, claimed)
            if players is None:
                return
            self._reach("seal_ranked")
            await sealing.note(conn, claimed, players)
            self._reach("seal_noted")
        self._reach("seal_committed")
        seconds = round(time.monotonic() - started, 3)
        log.info("epoch sealed", season_id=each.season_id, epoch=each.epoch, players=players, seconds=seconds)
