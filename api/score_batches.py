"""POST …/scores/batch: thousands of scores in one request and one transaction, with a result for each.

Bounded, so that batches take neither all connections nor all memory: bodies are read by whoever sends one, as far as
`_BODIES_BYTES` reach, and a turn comes to those that are complete. So a slow sender holds what it has sent and no turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.routing import Route

from api.access import Need
from api.answers import Answer, Header, json_answer, request_id
from api.batch_format import (
    NDJSON,
    BatchQueued,
    BatchRefused,
    Item,
    ItemResult,
    read_array,
    read_lines,
    refused,
)
from api.endpoint import MAX_BODY_BYTES, Call, Endpoint, Traced
from api.ledger_writes import CONFLICTS, LedgerWrites, Result
from api.rate_limits import RateLimits
from api.season_paths import ANY_SEASON, OfSeason
from shared.batcher import Batcher
from shared.errors import (
    BodyTooLargeError,
    InvalidRequestError,
    LeaderboardError,
    OverloadedError,
    RateLimitedError,
    UnavailableError,
)
from shared.scores import Score, SeasonId
from shared.settings import ServiceSettings

_AT_ONCE: Final = 2
_WAITING: Final = 32
_BODIES_BYTES: Final = 8 * 1024 * 1024
"""Of all batches of the process, on their way, waiting or at work: some thirty of 5,000 scores."""


@dataclass(slots=True)
class _Batch:
    """Not decoded before its turn: as scores it takes several times the memory.

    Nor is the body kept after it: an error on its way refers to the frames that it came through, and they to it, so
    that until the next collection of garbage all stays that they refer to.
    """

    season_id: SeasonId
    body: bytearray
    in_lines: bool
    traceparent: str | None = None

    def read(self) -> list[Item]:
        """The items. Raises InvalidRequestError, without a reference to the body."""
        body, self.body = self.body, bytearray()
        try:
            return read_lines(self.season_id, body) if self.in_lines else read_array(self.season_id, body)
        except InvalidRequestError as error:
            refusal = error.with_traceback(None)
            refusal.__cause__ = refusal.__context__ = None
        del body
        raise refusal


class ScoreBatches:
    """Batches of scores of one API process on their way into the ledger."""

    def __init__(self, writes: LedgerWrites, limits: RateLimits, settings: ServiceSettings, traced: Traced) -> None:
        self._writes = writes
        self._traced = traced
        self._limits = limits
        self._bodies_bytes = 0
        self._batcher: Batcher[_Batch, list[ItemResult]] = Batcher(
            self._store,
            max_batch=1,
            concurrency=min(_AT_ONCE, settings.db_pool_max - 1),
            max_waiting=_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )

    def routes(self) -> list[Route]:
        path = f"{ANY_SEASON}/scores/batch"
        return [OfSeason(path, Endpoint(self._traced(path, self.add_scores), Need.WRITE), methods=["POST"])]

    async def add_scores(self, call: Call) -> Answer:
        season_id = call.season_id
        if call.headers(b"idempotency-key"):
            raise InvalidRequestError(
                "a batch takes no Idempotency-Key: give each of its scores an eventId, then send it again as it is",
                code="invalid_idempotency_key",
            )
        with self._room(min(call.announced_bytes(), MAX_BODY_BYTES)) as take:
            batch = _Batch(season_id, await _body(call, take), _in_lines(call), call.traceparent)
            try:
                results = await self._batcher.submit(batch)
            finally:
                batch.body = bytearray()
        statuses = [result.status for result in results]
        queued, replayed = statuses.count("queued"), statuses.count("replayed")
        if queued + replayed == 0:
            message = "every score of the batch was refused; results says why"
            body = BatchRefused(message, "batch_refused", request_id(call.scope), results)
            return json_answer(body, *_status(results))
        return json_answer(BatchQueued(season_id, queued, replayed, len(results) - queued - replayed, results), 202)

    async def drain(self) -> None:
        await self._batcher.drain()

    @contextmanager
    def _room(self, announced_bytes: int) -> Iterator[Callable[[int], None]]:
        """For the bytes of one body, taken as they come and given back at the end.

        What is announced takes no room yet; where there is none for it now, it is not even read.
        """
        taken = 0

        def require(size: int) -> None:
            if self._bodies_bytes + size > _BODIES_BYTES:
                raise OverloadedError("too many batches are on their way; not stored, try again shortly")

        def take(size: int) -> None:
            nonlocal taken
            require(size)
            taken += size
            self._bodies_bytes += size

        require(announced_bytes)
        try:
            yield take
        finally:
            self._bodies_bytes -= taken

    async def _store(self, batches: list[_Batch]) -> list[list[ItemResult]]:
        return [await self._store_one(batch) for batch in batches]

    async def _store_one(self, batch: _Batch) -> list[ItemResult]:
        items = batch.read()
        places = [place for place, item in enumerate(items) if isinstance(item, Score)]
        beyond = await self._limits.refused_places([item.user_id for item in items if isinstance(item, Score)])
        for number, error in beyond.items():
            items[places[number]] = refused(error)
        scores = [item for item in items if isinstance(item, Score)]
        if batch.traceparent is not None and scores:
            scores[0] = scores[0]._replace(traceparent=batch.traceparent)  # the first stands for all of them
        stored = iter(await self._writes.store(scores) if scores else ())
        return [_told(next(stored)) if isinstance(item, Score) else item for item in items]


async def _body(call: Call, take: Callable[[int], None]) -> bytearray:
    try:
        return await call.body(take)
    except BodyTooLargeError as error:
        raise BodyTooLargeError(f"{error.message}; send it as two batches") from error


def _status(results: Sequence[ItemResult]) -> tuple[int, Sequence[Header]]:
    """The status, and further headers, of a batch of which nothing was taken."""
    codes = {result.code for result in results}
    if codes == {RateLimitedError.code}:
        return 429, ((b"retry-after", b"60"),)
    return (409 if codes <= CONFLICTS else 400), ()


def _told(result: Result) -> ItemResult:
    if isinstance(result, int):
        return ItemResult("queued", str(result))
    if isinstance(result, UnavailableError):
        raise result  # what became of this one is not known
    if isinstance(result, LeaderboardError):
        return refused(result)
    return ItemResult("replayed", str(result.event_id))


def _in_lines(call: Call) -> bool:
    """Whether the body's type says NDJSON; anything else is read as a JSON array."""
    return any(value.partition(";")[0].strip().lower() in NDJSON for value in call.headers(b"content-type"))
