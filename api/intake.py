"""Taking scores in: group commit into the ledger. Returns only once the commit is durable.

A score that got no answer of success may or may not have been stored; nothing here retries a commit whose outcome is
unknown. Its client may, with an idempotency key.
"""

from __future__ import annotations

import psycopg
import structlog

from shared import ledger
from shared.batcher import Batcher
from shared.errors import InvalidRequestError, KeyReusedError, PostgresUnavailableError
from shared.postgres import REFUSED, Connection, Pool, renew_if_lost
from shared.scores import Score
from shared.settings import ServiceSettings
from shared.wakeups import Wakeups

log = structlog.get_logger()


class Intake:
    """Scores of one API process on their way into the ledger."""

    def __init__(self, pool: Pool, wakeups: Wakeups, settings: ServiceSettings) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._batcher: Batcher[Score, bool] = Batcher(
            self._commit,
            max_batch=settings.intake_batch_max,
            concurrency=settings.intake_concurrency,
            max_waiting=settings.intake_queue_max,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )

    async def submit(self, score: Score) -> bool:
        """Store the score; returns whether it had been stored before, under the same key.

        Raises UnavailableError (503) when it can't be, InvalidRequestError or KeyReusedError when it won't be.
        """
        return await self._batcher.submit(score)

    async def drain(self) -> None:
        await self._batcher.drain()

    async def _commit(self, scores: list[Score]) -> list[Exception | bool]:
        try:
            async with self._pool.connection() as conn:
                outcomes = await _store(conn, scores)
        except (psycopg.Error, OSError, TimeoutError) as error:
            await renew_if_lost(self._pool, error)
            log.warning("commit failed", scores=len(scores), error=str(error).strip() or type(error).__name__)
            raise PostgresUnavailableError("the ledger does not answer; try again shortly") from error
        self._wakeups.tell()
        return outcomes


async def _store(conn: Connection, scores: list[Score]) -> list[Exception | bool]:
    """Insert the scores; one that the database refuses does not fail its neighbours."""
    try:
        try:
            outcomes = await ledger.append(conn, scores)
        except ledger.UnknownSeasonError:
            await ledger.create_seasons(conn, [score.season_id for score in scores])
            outcomes = await ledger.append(conn, scores)
    except REFUSED as error:
        if len(scores) > 1:
            return [(await _store(conn, [score]))[0] for score in scores]
        log.warning("score refused by the database", score=scores[0]._asdict(), error=str(error).strip())
        return [InvalidRequestError("the ledger does not take this score", code="score_refused")]
    return [
        await _told(conn, score, outcome) if outcome != "stored" else False
        for score, outcome in zip(scores, outcomes, strict=True)
    ]


async def _told(conn: Connection, score: Score, outcome: ledger.Outcome) -> Exception | bool:
    """What the client hears of a score that was not stored just now."""
    match outcome:
        case "replayed":
            return True
        case "reused":
            return KeyReusedError(
                f"the idempotency key {score.key} came with another userId or delta before; a new score needs a new key"
            )
        case "unknown":
            return PostgresUnavailableError("the ledger does not answer; send it again with the same key")
        case _:  # "expired" just now: it is free again
            return (await _store(conn, [score]))[0]
