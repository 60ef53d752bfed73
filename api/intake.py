"""Taking scores in: group commit into the ledger. Returns only once the commit is durable.

A score that got no answer of success may or may not have been stored; nothing here retries a commit whose outcome is
unknown. Its client may, with an idempotency key.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from api.ledger_writes import LedgerWrites, Stored
from api.rate_limits import RateLimits
from shared.batcher import Batcher
from shared.scores import Score
from shared.settings import ServiceSettings

_LINGER_SECONDS: Final = 0.004
"""Below full load commits of a few scores each would take a third of the processors."""


class Intake:
    """Scores of one API process on their way into the ledger."""

    def __init__(self, writes: LedgerWrites, limits: RateLimits, settings: ServiceSettings) -> None:
        self._limits = limits
        self._batcher: Batcher[Score, Stored] = Batcher(
            writes.store,
            max_batch=settings.intake_batch_max,
            concurrency=settings.intake_concurrency,
            max_waiting=settings.intake_queue_max,
            deadline_seconds=settings.request_timeout_ms / 1000,
            linger_seconds=_LINGER_SECONDS,
        )

    def submit(self, score: Score) -> Awaitable[Stored]:
        """Store the score; comes to the id by which it is stored, now or before, under the same key.

        Raises UnavailableError (503) when it can't be, InvalidRequestError or KeyReusedError when it won't be,
        RateLimitedError when the player has more than may come.
        """
        if self._limits.counts_players:
            return self._submit_counted(score)
        return self._batcher.submit(score)

    async def _submit_counted(self, score: Score) -> Stored:
        await self._limits.take_player(score.user_id)
        return await self._batcher.submit(score)

    async def drain(self) -> None:
        await self._batcher.drain()
