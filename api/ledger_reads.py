"""Questions to PostgreSQL that no score waits for: few at a time, each within the deadline of its request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import psycopg
import structlog

from shared.deadline import within
from shared.errors import DeadlineError, PostgresUnavailableError
from shared.postgres import Connection, Pool, renew_if_lost
from shared.settings import ServiceSettings

_AT_ONCE: Final = 4
"""They may wait for a season's lock; the connections that scores need are not theirs to wait with."""

T = TypeVar("T")

log = structlog.get_logger()


class LedgerReads:
    """Of one API process; each kind of question has turns of its own, so that no other waits for the long ones."""

    def __init__(
        self, pool: Pool, settings: ServiceSettings, *, at_once: int = _AT_ONCE, advice: str = "ask again shortly"
    ) -> None:
        """`advice`: what somebody is told whose question was not done in time."""
        self._advice = advice
        self._pool = pool
        self._deadline_seconds = settings.request_timeout_ms / 1000
        self._turns = asyncio.Semaphore(at_once)

    async def ask(self, question: Callable[[Connection], Awaitable[T]]) -> T:
        """What `question` returns. Raises UnavailableError where PostgreSQL does not answer, or not in time."""

        async def in_turn() -> T:
            async with self._turns, self._pool.connection() as conn:
                return await question(conn)

        try:
            return await within(self._deadline_seconds, in_turn())
        except TimeoutError as error:
            raise DeadlineError(f"not done within {self._deadline_seconds:g} s; {self._advice}") from error
        except (psycopg.Error, OSError) as error:
            await renew_if_lost(self._pool, error)
            log.warning("ledger does not answer", error=str(error).strip() or type(error).__name__)
            raise PostgresUnavailableError("the ledger does not answer; ask again shortly") from error
