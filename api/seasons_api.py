"""Scores in, boards out: the paths below a season, their bodies. Rules are in shared.scores."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Final, Protocol, TypeAlias

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, TaggedAnswer, json_answer
from api.applied_scores import AppliedScores, queued
from api.boards import Boards, Page, Placing
from api.cursors import cursor_behind, place_of
from api.endpoint import Call, Endpoint, Traced, score_in, ties_in, user_id_in, whole_number_in, window_in
from api.intake import Intake
from api.season_paths import ANY_SEASON, OfSeason
from api.top_cache import TopCache, key_of
from api.visibility import Visibility
from api.waiting import Pending, pending_after, wait_ms_in, waits
from shared.errors import InvalidRequestError
from shared.scores import (
    DEFAULT_AROUND_RANGE,
    DEFAULT_TOP_LIMIT,
    MAX_AROUND_RANGE,
    MAX_OFFSET,
    MAX_TOP_LIMIT,
    IdempotencyKey,
    Score,
    SeasonId,
    UserId,
    moment_in_time,
    parse_delta,
    parse_epoch,
    parse_idempotency_key,
    parse_score,
    parse_user_id,
)

_NOW: Final = (NO_STORE,)

Moment: TypeAlias = Annotated[dt.datetime, msgspec.Meta(tz=True)]
"""RFC 3339, with the offset from UTC."""


class ScoreBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """One of `delta` and `score`. `occurredAt`: when it was reached; left out, before 1970 or still to come: when it
    arrives."""

    user_id: str
    delta: int | msgspec.UnsetType = msgspec.UNSET
    score: int | msgspec.UnsetType = msgspec.UNSET
    event_id: str | None = None
    epoch: int | None = None
    occurred_at: Moment | None = None


class RankedPlayer(msgspec.Struct, frozen=True, rename="camel"):
    rank: int
    user_id: str
    score: int


class Top(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: where the players behind these begin, null = there are none. `pending`, here and below: whether the
    event of `after` is still to come."""

    season_id: str
    items: list[RankedPlayer]
    total_players: int
    next_cursor: str | None
    pending: Pending = msgspec.UNSET


class Rank(msgspec.Struct, frozen=True, rename="camel"):
    """`percentile`: of all players so many stand at this rank or behind it, in per cent."""

    season_id: str
    user_id: str
    rank: int
    score: int
    percentile: float
    total_players: int
    pending: Pending = msgspec.UNSET


class Around(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    range: int
    items: list[RankedPlayer]
    pending: Pending = msgspec.UNSET


class AroundScore(msgspec.Struct, frozen=True, rename="camel"):
    """`rank`: what a player who reaches the score now would have, behind all that are as good."""

    season_id: str
    score: int
    rank: int
    range: int
    items: list[RankedPlayer]
    pending: Pending = msgspec.UNSET


class PastBoards(Protocol):
    """Answers what is asked about another moment than now (`api.time_travel`)."""

    async def top(self, call: Call, query: dict[str, str]) -> Answer: ...

    async def rank(self, call: Call, query: dict[str, str]) -> Answer: ...

    async def around(self, call: Call, query: dict[str, str]) -> Answer: ...


class SeasonsApi:
    """`hot`: what games ask all the time, by method and what follows the season's id in the path."""

    def __init__(
        self,
        intake: Intake,
        boards: Boards,
        top_cache: TopCache,
        visibility: Visibility,
        traced: Traced,
        *,
        time_travel: PastBoards,
    ) -> None:
        self._intake = intake
        self._boards = boards
        self._top_cache = top_cache
        self._time_travel = time_travel
        self._visibility = visibility
        self._applied_scores = AppliedScores(intake, boards, visibility)
        self._score_decoder = msgspec.json.Decoder(ScoreBody)
        self.hot: Mapping[tuple[str, str], Endpoint] = {
            ("POST", "scores"): Endpoint(traced(f"{ANY_SEASON}/scores", self.add_score), Need.WRITE),
            ("GET", "leaderboard/top"): Endpoint(self.top, Need.READ),
            ("GET", "leaderboard/rank"): Endpoint(self.rank, Need.READ),
            ("GET", "leaderboard/around"): Endpoint(self.around, Need.READ),
        }

    def routes(self) -> list[Route]:
        return [OfSeason(f"{ANY_SEASON}/{rest}", app, methods=[method]) for (method, rest), app in self.hot.items()]

    async def add_score(self, call: Call) -> Answer:
        season_id = call.season_id
        body = await call.json(self._score_decoder)
        key = key_in(call, body.event_id)
        score = score_of(season_id, body, key, call.traceparent)
        if call.scope["query_string"] and (wait_ms := wait_ms_in(call.query(), 0)):
            return await self._applied_scores.add(score, wait_ms)
        return queued(score, await self._intake.submit(score))

    async def top(self, call: Call) -> Answer:
        season_id, query = call.season_id, call.query()
        if "asOf" in query or "movementSince" in query:
            return await self._time_travel.top(call, query)
        limit = whole_number_in(query, "limit", default=DEFAULT_TOP_LIMIT, lowest=1, highest=MAX_TOP_LIMIT)
        offset = whole_number_in(query, "offset", default=0, lowest=0, highest=MAX_OFFSET)
        cursor = query.get("cursor")
        if cursor is not None and "offset" in query:
            raise InvalidRequestError("send offset or cursor, not both", code="invalid_cursor")
        behind = None if cursor is None else place_of(cursor)
        window, shared = window_in(query), ties_in(query)

        async def load(pending: Pending = msgspec.UNSET) -> bytes:
            page = await self._boards.top(season_id, limit, offset, behind, window=window, shared=shared)
            return top_body(season_id, page, pending)

        if waits(query):  # what is kept may be older
            pending = await pending_after(self._visibility, season_id, query)
            return TaggedAnswer(await load(pending)).to(call.header(b"if-none-match"))
        kept = await self._top_cache.find(key_of(call.scope), season_id, load)
        return kept.to(call.header(b"if-none-match"))

    async def rank(self, call: Call) -> Answer:
        season_id, query = call.season_id, call.query()
        if "asOf" in query or "movementSince" in query:
            return await self._time_travel.rank(call, query)
        user_id = user_id_in(query)
        window, shared = window_in(query), ties_in(query)
        pending = await pending_after(self._visibility, season_id, query) if waits(query) else msgspec.UNSET
        place = await self._boards.rank(season_id, user_id, window=window, shared=shared)
        return json_answer(rank_of(season_id, user_id, place, pending), headers=_NOW)

    async def around(self, call: Call) -> Answer:
        season_id, query = call.season_id, call.query()
        if "asOf" in query or "movementSince" in query:
            return await self._time_travel.around(call, query)
        size = whole_number_in(query, "range", default=DEFAULT_AROUND_RANGE, lowest=0, highest=MAX_AROUND_RANGE)
        window, shared = window_in(query), ties_in(query)
        if "score" in query and "userId" in query:
            raise InvalidRequestError("send userId or score, not both", code="invalid_query")
        if "score" in query:
            score = score_in(query)
            pending = await pending_after(self._visibility, season_id, query) if waits(query) else msgspec.UNSET
            players, rank = await self._boards.around_score(season_id, score, size, window=window, shared=shared)
            found = AroundScore(season_id, score, rank, size, list(map(RankedPlayer, *players)), pending)
            return json_answer(found, headers=_NOW)
        user_id = user_id_in(query)
        pending = await pending_after(self._visibility, season_id, query) if waits(query) else msgspec.UNSET
        players = await self._boards.around(season_id, user_id, size, window=window, shared=shared)
        items = list(map(RankedPlayer, *players))
        return json_answer(Around(season_id, user_id, size, items, pending), headers=_NOW)


def top_body(season_id: SeasonId, page: Page, pending: Pending = msgspec.UNSET) -> bytes:
    """The encoded body that says what the page does."""
    players, total, last = page
    items = list(map(RankedPlayer, *players))
    next_cursor = None if last is None else cursor_behind(last)
    return msgspec.json.encode(Top(season_id, items, total, next_cursor, pending))


def rank_of(season_id: SeasonId, user_id: UserId, place: Placing, pending: Pending = msgspec.UNSET) -> Rank:
    rank, score, total = place
    return Rank(season_id, user_id, rank, score, percentile(rank, total), total, pending)


def percentile(rank: int, total: int) -> float:
    """Of all players so many stand at this rank or behind it, in per cent."""
    return 100 * (total - rank + 1) / total


def score_of(season_id: SeasonId, body: ScoreBody, key: IdempotencyKey | None, traceparent: str | None = None) -> Score:
    """The score that a body says. Raises InvalidRequestError."""
    user_id, epoch, at = parse_user_id(body.user_id), parse_epoch(body.epoch), moment_in_time(body.occurred_at)
    if body.score is msgspec.UNSET and body.delta is not msgspec.UNSET:
        return Score(season_id, user_id, parse_delta(body.delta), key, False, epoch, at, traceparent)
    if body.delta is msgspec.UNSET and body.score is not msgspec.UNSET:
        return Score(season_id, user_id, parse_score(body.score), key, True, epoch, at, traceparent)
    raise InvalidRequestError(
        "the body must hold one of delta, the points to add, and score, the score that was reached", code="invalid_body"
    )


def key_in(call: Call, event_id: str | None) -> IdempotencyKey | None:
    """The key from the header, the body's eventId, or both where they say the same. Raises InvalidRequestError."""
    headers = call.headers(b"idempotency-key")
    if event_id is None and not headers:
        return None
    keys = {parse_idempotency_key(text) for text in (*headers, event_id) if text is not None}
    if len(keys) > 1:
        raise InvalidRequestError(
            "Idempotency-Key and eventId differ; send one of them, or both alike", code="invalid_idempotency_key"
        )
    return keys.pop() if keys else None
