"""POST …/scores/batch: thousands of scores in one request and one transaction, with a result for each.

Bounded, so that batches take neither all connections nor all memory: bodies are read by whoever sends one, as far as
`_BODIES_BYTES` reach, and a turn comes to those that are complete. So a slow sender holds what it has sent and no turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from starlette.routing import Route

from api.answers import Answer, json_answer, request_id
from api.batch_format import (
    NDJSON,
    QUEUED,
    REPLAYED,
    BatchQueued,
    BatchRefused,
    ItemResult,
    read_array,
    read_lines,
    refused,
)
from api.endpoint import Call, Endpoint
from api.ledger_writes import store
from shared.batcher import Batcher
from shared.errors import BodyTooLargeError, InvalidRequestError, OverloadedError, UnavailableError
from shared.postgres import Pool
from shared.scores import Score, SeasonId
from shared.settings import ServiceSettings

_AT_ONCE: Final = 2
_WAITING: Final = 32
_BODIES_BYTES: Final = 8 * 1024 * 1024
"""Of all batches of the process, on their way, waiting or at work: some thirty of 5,000 scores."""


class _Batch(NamedTuple):
    """Not decoded before its turn: as scores it takes several times the memory."""

    season_id: SeasonId
    body: bytearray
    in_lines: bool


class ScoreBatches:
    """Batches of scores of one API process on their way into the ledger."""

    def __init__(self, pool: Pool, settings: ServiceSettings) -> None:
        self._pool = pool
        self._bodies_bytes = 0
        self._batcher: Batcher[_Batch, list[ItemResult]] = Batcher(
            self._store,
            max_batch=1,
            concurrency=min(_AT_ONCE, settings.db_pool_max - 1),
            max_waiting=_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )

    def routes(self) -> list[Route]:
        """Go behind those of the seasons API, which make the path's convertor known."""
        return [Route("/v1/seasons/{sid:anything}/scores/batch", Endpoint(self.add_scores), methods=["POST"])]

    async def add_scores(self, call: Call) -> Answer:
        season_id = call.season_id
        if call.headers(b"idempotency-key"):
            raise InvalidRequestError(
                "a batch takes no Idempotency-Key: give each of its scores an eventId, then send it again as it is",
                code="invalid_idempotency_key",
            )
        with self._room() as take:
            try:
                body = await call.body(take)
            except BodyTooLargeError as error:
                raise BodyTooLargeError(f"{error.message}; send it as two batches") from error
            results = await self._batcher.submit(_Batch(season_id, body, _in_lines(call)))
        queued, replayed = results.count(QUEUED), results.count(REPLAYED)
        if queued + replayed == 0:
            message = "every score of the batch was refused; results says why"
            return json_answer(BatchRefused(message, "batch_refused", request_id(call.scope), results), 400)
        return json_answer(BatchQueued(season_id, queued, replayed, len(results) - queued - replayed, results), 202)

    async def drain(self) -> None:
        await self._batcher.drain()

    @contextmanager
    def _room(self) -> Iterator[Callable[[int], None]]:
        """For the bytes of one body, taken as they come and given back at the end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            if self._bodies_bytes + size > _BODIES_BYTES:
                raise OverloadedError("too many batches are on their way; not stored, try again shortly")
            taken += size
            self._bodies_bytes += size

        try:
            yield take
        finally:
            self._bodies_bytes -= taken

    async def _store(self, batches: list[_Batch]) -> list[list[ItemResult]]:
        return [await self._store_one(batch) for batch in batches]

    async def _store_one(self, batch: _Batch) -> list[ItemResult]:
        read = read_lines if batch.in_lines else read_array
        items = read(batch.season_id, batch.body)
        scores = [item for item in items if isinstance(item, Score)]
        stored = iter(await store(self._pool, scores) if scores else ())
        results: list[ItemResult] = []
        for item in items:
            result = next(stored) if isinstance(item, Score) else item
            if isinstance(result, UnavailableError):
                raise result  # what became of this one is not known
            if result is False:
                results.append(QUEUED)
            elif result is True:
                results.append(REPLAYED)
            else:
                results.append(refused(result))
        return results


def _in_lines(call: Call) -> bool:
    """Whether the body's type says NDJSON; anything else is read as a JSON array."""
    return any(value.partition(";")[0].strip().lower() in NDJSON for value in call.headers(b"content-type"))
