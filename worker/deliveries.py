"""Telling receivers of final ranks: written down as soon as an epoch is sealed, then tried until they are taken."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from shared import deliveries
from shared.deliveries import Delivery, pause_seconds
from shared.postgres import Pool
from worker.batch import Reach
from worker.webhook_post import NotTakenError, WebhookPost

DELIVERY_STEPS: Final = ("delivery_written", "delivery_claimed", "delivery_sent", "delivery_noted")
"""The steps after which a test may have the worker killed."""

_AT_ONCE: Final = 16
"""Attempts under way in a worker. Receivers that do not answer hold as many others up by 10 s."""

log = structlog.get_logger()


class Deliveries:
    """`reach` is told each step of DELIVERY_STEPS."""

    def __init__(self, pool: Pool, post: WebhookPost, reach: Reach) -> None:
        self._pool = pool
        self._post = post
        self._reach = reach

    async def run(self) -> float | None:
        """Write down what is to be sent and send what is due; returns in how many seconds the next attempt is, None:
        there is none."""
        while await self._write():
            pass
        while attempts := await self._claimed():
            # Each to its end, whatever becomes of the others.
            outcomes = await asyncio.gather(*map(self._attempt, attempts), return_exceptions=True)
            for trouble in filter(None, outcomes):
                raise trouble
        async with self._pool.connection() as conn:
            return await deliveries.seconds_until_due(conn)

    async def _write(self) -> bool:
        async with self._pool.connection() as conn, conn.transaction():
            season_id = await deliveries.write(conn)
        if season_id is None:
            return False
        self._reach("delivery_written")
        return True

    async def _claimed(self) -> list[Delivery]:
        async with self._pool.connection() as conn:
            claimed = await deliveries.claim(conn, _AT_ONCE)
        if claimed:
            self._reach("delivery_claimed")
        return claimed

    async def _attempt(self, delivery: Delivery) -> None:
        told = {"season_id": delivery.season_id, "epoch": delivery.epoch, "attempt": delivery.attempts}
        try:
            await self._post.send(delivery)
        except NotTakenError as error:
            pause = None if error.for_good else pause_seconds(delivery.attempts, random.random())  # noqa: S311 - jitter
            log.warning("final ranks not taken", **told, error=str(error), again_in_seconds=pause and round(pause))
            async with self._pool.connection() as conn:
                await deliveries.note_failed(conn, delivery, str(error), pause)
        else:
            self._reach("delivery_sent")
            async with self._pool.connection() as conn:
                await deliveries.note_taken(conn, delivery)
            log.info("final ranks taken", **told)
        self._reach("delivery_noted")
