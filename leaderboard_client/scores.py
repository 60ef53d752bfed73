"""Scores on their way into a season, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack
from uuid import uuid4

from msgspec import Raw, Struct, field

from .boards import Page
from .connection import Connection, encoded, path_of, quoted

BATCH_SCORES = 5000
"""Scores that one request may hold; more are sent as several, one after the other."""

_BATCH_BYTES = 1024 * 1024
"""What its body may be long; of long ids and keys it holds fewer."""


class Stored(Struct, frozen=True, rename="camel", repr_omit_defaults=True):
    """A score that counts, exactly once. `event_id`: the service's number of it, not the key. `queued`: it is still on
    its way to the board; False: it is there, and the rest is told, None = the player is not on the board.
    `previous_rank`: of just before the score."""

    event_id: str
    queued: bool = True
    score: int | None = None
    rank: int | None = None
    previous_rank: int | None = None


class Event(Struct, frozen=True, kw_only=True, rename="camel", repr_omit_defaults=True):
    """A score in the ledger, or what an operator did, and what became of it. `state` and `effect`: as docs/api.md has
    them; `effect` None: pending, failed, or no score. `target`, of a void: the event_id of what it takes away.
    `user_id` None: of players who were hidden or erased. `occurred_at`: when it was reached, if that was said."""

    season_id: str
    event_id: str
    user_id: str | None
    type: Literal["score", "void", "hide", "unhide", "erase"]
    delta: int | None = None
    score: int | None = None
    target: str | None = None
    epoch: int | None
    created_at: datetime
    occurred_at: datetime | None
    state: Literal["pending", "done", "failed", "discarded", "voided"]
    effect: Literal["counted", "superseded", "ended", "voided", "discarded"] | None
    reason: str | None = None
    processed_at: datetime | None = None


class Result(Struct, frozen=True, rename="camel", repr_omit_defaults=True):
    """Of one score of many. `replayed`: it was stored before, under the same key. `code`, `error`: why it was
    refused."""

    status: Literal["queued", "replayed", "refused"]
    event_id: str | None = None
    code: str | None = None
    error: str | None = None


class _Results(Struct):
    results: list[Result]


class Score(Struct, frozen=True):
    """`points`: to add, or the score that was reached. `key`: sent again with it, within a day, the score counts once.
    `occurred_at`: when it was reached, with an offset; None = now. `epoch`: the only one in which it is to count, for
    scores that may come late; None = whichever the season is in."""

    user_id: str
    points: int
    key: str = field(default_factory=lambda: uuid4().hex)
    occurred_at: datetime | None = None
    epoch: int | None = None

    def body(self, kind: Literal["delta", "score"]) -> dict[str, Any]:
        """As the service wants it: `delta` for seasons that add up, `score` for those that keep one."""
        body = {"userId": self.user_id, kind: self.points, "eventId": self.key, "occurredAt": self.occurred_at}
        return body if self.epoch is None else {**body, "epoch": self.epoch}


class Sent(TypedDict, total=False):
    """What goes along with a score, as of `Score`. Give a `key`, of match and player say, where you will send the score
    again yourself after an error: each call without one is a score of its own."""

    key: str
    occurred_at: datetime | None
    epoch: int | None


class ScoreCalls(Connection):
    """Writes: each is sent again under the key it went with the first time, and counts once."""

    async def add(self, season_id: str, user_id: str, delta: int, wait: int = 0, **sent: Unpack[Sent]) -> Stored:
        """Add points (not 0) in a season that sums up; it comes into being with its first score.

        Returns once the score is durable, and, with `wait`, after so many milliseconds (2000 at most) at the latest,
        when it is on the board. Raises LeaderboardError: 409 `season_closed`, `season_not_started`, `epoch_mismatch`,
        `wrong_aggregation`; 422 `idempotency_key_reused`; after the last attempt 503 or `no_answer`: whether it was
        stored is then not known, and the same key makes another call safe.
        """
        return await self._store_one(season_id, Score(user_id, delta, **sent).body("delta"), wait)

    async def submit(self, season_id: str, user_id: str, score: int, wait: int = 0, **sent: Unpack[Sent]) -> Stored:
        """Send the score that was reached, in a season that keeps the best or the latest. All else is as of `add`."""
        return await self._store_one(season_id, Score(user_id, score, **sent).body("score"), wait)

    async def add_many(self, season_id: str, scores: list[Score]) -> list[Result]:
        """Add points of any number of players: a result for each, in the same order.

        What is refused is in its result, not raised. Raises LeaderboardError where a request as a whole failed: of more
        than one holds, those before are stored, and sending all again with the same keys is safe.
        """
        return await self._store(season_id, [score.body("delta") for score in scores])

    async def submit_many(self, season_id: str, scores: list[Score]) -> list[Result]:
        """As `add_many`, with scores that were reached."""
        return await self._store(season_id, [score.body("score") for score in scores])

    async def event(self, season_id: str, event_id: str) -> Event:
        """What became of a score, or of what an operator did. Raises LeaderboardError: 404 `event_not_found`."""
        return await self._ask(Event, "GET", path_of("seasons", season_id, f"/events/{quoted(event_id)}"))

    async def events(self, season_id: str, user_id: str, *, limit: int = 50, cursor: str = "") -> Page[Event]:
        """A player's scores in a season, newest first, 1 to 500 of them, of all epochs that the ledger still has."""
        path = path_of("seasons", season_id, f"/users/{quoted(user_id)}/events")
        return await self._ask(Page[Event], "GET", path, limit=limit, cursor=cursor)

    async def _store_one(self, season_id: str, body: dict[str, Any], wait: int) -> Stored:
        return await self._ask(Stored, "POST", path_of("seasons", season_id, "/scores"), body, wait=wait or None)

    async def _store(self, season_id: str, bodies: list[dict[str, Any]]) -> list[Result]:
        results: list[Result] = []
        for batch in _batches(bodies):
            told = await self._ask(_Results, "POST", path_of("seasons", season_id, "/scores/batch"), batch)
            results += told.results
        return results


def _batches(bodies: list[dict[str, Any]]) -> Iterator[list[Raw]]:
    """As many as one request may hold, as JSON."""
    batch: list[Raw] = []
    length = 1  # the brackets, and a comma for each but the first
    for body in bodies:
        score = encoded(body)
        if batch and (len(batch) == BATCH_SCORES or length + len(score) + 1 > _BATCH_BYTES):
            yield batch
            batch, length = [], 1
        batch.append(Raw(score))
        length += len(score) + 1
    if batch:
        yield batch
