"""What an operator's requests ask and change, beside the scores: connections of their own, few, each with a deadline.

Nothing of it may be felt by who sends or reads scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
import structlog
from redis.exceptions import RedisError

from api.ledger_reads import LedgerReads
from shared.deadline import within
from shared.errors import DeadlineError, PostgresUnavailableError, RedisUnavailableError
from shared.postgres import Pool, connection_settings, create_pool, renew_if_lost
from shared.projection import Projection
from shared.reconciliation import LateError, SeasonsUnreachableError
from shared.redis_client import create_client
from shared.settings import ServiceSettings

_CONNECTIONS: Final = 10
"""Questions take up to four, changes one, a comparison and a rebuild one each, exports two, and one of them to pass a
late token."""

_STATEMENT_SECONDS: Final = 600
"""A season's ledger is summed in one statement, about a second per million events."""

_LOCK_SECONDS: Final = 5
_REDIS_SECONDS: Final = 10.0

log = structlog.get_logger()


class OpsLedger:
    """Of one API process. It connects with the first request of an operator's."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.pool: Pool = create_pool(
            connection_settings(
                settings.postgres_dsn,
                "ops",
                statement_ms=_STATEMENT_SECONDS * 1000,
                lock_ms=_LOCK_SECONDS * 1000,
                idle_in_transaction_ms=60_000,
            ),
            max_size=_CONNECTIONS,
            min_size=0,
            patience_seconds=_STATEMENT_SECONDS + 5,
        )
        self._client = create_client(settings.redis_url, "ops", timeout_seconds=_REDIS_SECONDS, retries=1)
        self.projection = Projection(self._client)
        self.reads = LedgerReads(self.pool, settings)
        self._deadline_seconds = settings.request_timeout_ms / 1000
        self._turn = asyncio.Semaphore(1)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        await self.pool.open()
        try:
            yield
        finally:
            await self._client.aclose()
            await self.pool.close(timeout=0.5)

    async def change(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Carry the work out, one at a time; returns whether it came to its end within the request's deadline, after
        which it is cancelled. Raises UnavailableError where a server does not answer."""

        async def in_turn() -> None:
            async with self._turn, self.trouble_told():
                await work()

        try:
            await within(self._deadline_seconds, in_turn())
        except TimeoutError:
            return False
        return True

    @asynccontextmanager
    async def trouble_told(self) -> AsyncIterator[None]:
        """Trouble with the servers, as UnavailableError."""
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise PostgresUnavailableError(
                f"somebody held a season or an event for over {_LOCK_SECONDS} s, such as a rebuild; what was not "
                "finished is rolled back: ask again"
            ) from error
        except (psycopg.Error, OSError) as error:
            await renew_if_lost(self.pool, error)
            log.warning("ledger does not answer", error=str(error).strip() or type(error).__name__)
            raise PostgresUnavailableError(
                "the ledger does not answer; what was not finished is rolled back"
            ) from error
        except (RedisError, LateError, SeasonsUnreachableError) as error:
            log.warning("board does not answer", error=str(error))
            raise RedisUnavailableError("a board does not answer; what was not finished is rolled back") from error

    def late(self) -> DeadlineError:
        """What to say where nothing was changed in time."""
        return DeadlineError(f"nothing was done within {self._deadline_seconds:g} s; ask again shortly")
