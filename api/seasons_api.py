"""The seasons API of the wire contract: its paths, its bodies in and out. Rules are in shared.scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match, Route
from starlette.types import Scope

from api.answers import NO_STORE, Answer, json_answer
from api.boards import Boards
from api.endpoint import Call, Endpoint, user_id_in, whole_number_in
from api.intake import Intake
from api.resets import Resets
from api.top_cache import TopCache, key_of
from shared.errors import InvalidRequestError
from shared.scores import (
    DEFAULT_AROUND_RANGE,
    DEFAULT_TOP_LIMIT,
    MAX_AROUND_RANGE,
    MAX_TOP_LIMIT,
    IdempotencyKey,
    Score,
    parse_delta,
    parse_idempotency_key,
    parse_user_id,
)

# Tells a client that its score had been stored before; the name is the one that Stripe's API made known.
_REPLAYED: Final = ((b"idempotent-replayed", b"true"),)

_NOW: Final = (NO_STORE,)


class ScoreBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    user_id: str
    delta: int
    event_id: str | None = None


class Queued(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    queued: bool = True


class Player(msgspec.Struct, frozen=True, rename="camel"):
    user_id: str
    score: int


class RankedPlayer(msgspec.Struct, frozen=True, rename="camel"):
    rank: int
    user_id: str
    score: int


class Top(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    items: list[Player]


class Rank(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    rank: int
    score: int


class Around(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    range: int
    items: list[RankedPlayer]


class Deleted(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    deleted: bool = True


class _Anything(Convertor[str]):
    """Takes an empty id, one with an encoded slash or line break, so that it can be told what is wrong with it."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _NothingElse(_Anything):
    """The same, but for the paths below a season: those have methods of their own."""

    regex = r"(?![\s\S]*/(?:scores(?:/batch)?|leaderboard/(?:top|rank|around))$)[\s\S]*"


class _OnlyItsMethod(Route):
    """A route so wide that other methods must not take its match for "the path is right, the method is not"."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        return (Match.NONE, {}) if match is Match.PARTIAL else (match, child_scope)


class SeasonsApi:
    """`hot`: what games ask all the time, by method and what follows the season's id in the path."""

    def __init__(self, intake: Intake, boards: Boards, resets: Resets, top_cache: TopCache) -> None:
        self._intake = intake
        self._boards = boards
        self._top_cache = top_cache
        self._resets = resets
        self._score_decoder = msgspec.json.Decoder(ScoreBody)
        self.hot: Mapping[tuple[str, str], Endpoint] = {
            ("POST", "scores"): Endpoint(self.add_score),
            ("GET", "leaderboard/top"): Endpoint(self.top),
            ("GET", "leaderboard/rank"): Endpoint(self.rank),
            ("GET", "leaderboard/around"): Endpoint(self.around),
        }

    def routes(self) -> list[Route]:
        register_url_convertor("anything", _Anything())
        register_url_convertor("nothing_else", _NothingElse())
        season = "/v1/seasons/{sid:anything}"
        return [
            *(Route(f"{season}/{rest}", app, methods=[method]) for (method, rest), app in self.hot.items()),
            Route("/v1/seasons/{sid}", Endpoint(self.delete), methods=["DELETE"]),
            _OnlyItsMethod("/v1/seasons/{sid:nothing_else}", Endpoint(self.delete), methods=["DELETE"]),
        ]

    async def add_score(self, call: Call) -> Answer:
        season_id = call.season_id
        body = await call.json(self._score_decoder)
        key = _idempotency_key(call.headers(b"idempotency-key"), body.event_id)
        score = Score(season_id, parse_user_id(body.user_id), parse_delta(body.delta), key)
        replayed = await self._intake.submit(score)
        return json_answer(Queued(season_id, score.user_id), 202, _REPLAYED if replayed else ())

    async def top(self, call: Call) -> Answer:
        season_id = call.season_id
        limit = whole_number_in(call.query(), "limit", default=DEFAULT_TOP_LIMIT, lowest=1, highest=MAX_TOP_LIMIT)

        async def load() -> bytes:
            entries = await self._boards.top(season_id, limit)
            return msgspec.json.encode(Top(season_id, [Player(*entry) for entry in entries]))

        found = await self._top_cache.fetch(key_of(call.scope), season_id, load)
        return found.to(call.header(b"if-none-match"))

    async def rank(self, call: Call) -> Answer:
        season_id, user_id = call.season_id, user_id_in(call.query())
        rank, score = await self._boards.rank(season_id, user_id)
        return json_answer(Rank(season_id, user_id, rank, score), headers=_NOW)

    async def around(self, call: Call) -> Answer:
        season_id, query = call.season_id, call.query()
        user_id = user_id_in(query)
        size = whole_number_in(query, "range", default=DEFAULT_AROUND_RANGE, lowest=0, highest=MAX_AROUND_RANGE)
        items = list(map(RankedPlayer, *await self._boards.around(season_id, user_id, size)))
        return json_answer(Around(season_id, user_id, size, items), headers=_NOW)

    async def delete(self, call: Call) -> Answer:
        season_id = call.season_id
        await self._resets.reset(season_id)
        self._top_cache.drop([season_id])
        return json_answer(Deleted(season_id))


def _idempotency_key(headers: list[str], event_id: str | None) -> IdempotencyKey | None:
    """The key from the header, the body's eventId, or both where they say the same."""
    if event_id is None and not headers:
        return None
    keys = {parse_idempotency_key(text) for text in (*headers, event_id) if text is not None}
    if len(keys) > 1:
        raise InvalidRequestError(
            "Idempotency-Key and eventId differ; send one of them, or both alike", code="invalid_idempotency_key"
        )
    return keys.pop() if keys else None
