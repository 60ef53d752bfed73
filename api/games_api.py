"""The games API: best score per player and game, in time windows. Game N is the season `game:N`, on the same core.

Its paths and bodies are those of a service of before: snake_case, ids are positive integers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final, Literal

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, json_answer
from api.applied_scores import replay_header
from api.boards import Boards
from api.endpoint import Call, Endpoint, Traced, whole_number_in, window_in
from api.intake import Intake
from api.ledger_writes import event_id_of
from api.seasons_api import Moment, key_in, percentile
from api.top_cache import TopCache, key_of
from shared.errors import InvalidRequestError
from shared.scores import (
    DEFAULT_TOP_LIMIT,
    MAX_TOP_LIMIT,
    Score,
    SeasonId,
    UserId,
    is_number,
    moment_in_time,
    parse_number,
    parse_score,
    season_of_game,
)
from shared.windows import Window

_ALL: Final = "all"
_NOW: Final = (NO_STORE,)


class GameScore(msgspec.Struct, frozen=True):
    """What POST takes. `timestamp`: when the score was reached; left out, before 1970 or still to come: when it
    arrives."""

    game_id: int
    user_id: int
    score: int
    timestamp: Moment | None = None


class GameScoreTaken(msgspec.Struct, frozen=True):
    game_id: int
    user_id: int
    score: int
    event_id: str
    accepted: bool = True


class Leader(msgspec.Struct, frozen=True):
    """`user_id`: a text where the player got its score through the seasons API, by an id that is no number."""

    user_id: int | str
    score: int
    rank: int


class GameTop(msgspec.Struct, frozen=True):
    game_id: int
    leaders: list[Leader]
    total_players: int
    window: Window | Literal["all"]


class GameRank(msgspec.Struct, frozen=True):
    """`percentile`: of all players so many stand at this rank or behind it, in per cent."""

    game_id: int
    user_id: int
    score: int
    rank: int
    percentile: float
    total_players: int
    window: Window | Literal["all"]


class GameHealth(msgspec.Struct, frozen=True):
    status: str
    version: str
    timestamp: Moment


class GamesApi:
    """`hot`: what games ask all the time, by method, word and how many ids follow it in the path."""

    def __init__(self, intake: Intake, boards: Boards, top_cache: TopCache, traced: Traced) -> None:
        self._intake = intake
        self._boards = boards
        self._top_cache = top_cache
        self._decoder = msgspec.json.Decoder(GameScore)
        self._version = version("season-leaderboard")
        self.hot: Mapping[tuple[str, str, int], Endpoint] = {
            ("POST", "score", 0): Endpoint(
                traced(games_path("score", 0), self.add_score), Need.WRITE, season_in_body=True
            ),
            ("GET", "top", 1): Endpoint(self.top, Need.READ),
            ("GET", "rank", 2): Endpoint(self.rank, Need.READ),
        }

    def routes(self) -> list[Route]:
        return [
            Route("/api/health", Endpoint(self.health, Need.OPEN), methods=["GET"]),
            *(Route(games_path(word, count), app, methods=[method]) for (method, word, count), app in self.hot.items()),
        ]

    async def health(self, _call: Call) -> Answer:
        return json_answer(GameHealth("OK", self._version, dt.datetime.now(dt.UTC)), headers=_NOW)

    async def add_score(self, call: Call) -> Answer:
        body = await call.json(self._decoder)
        season_id, user_id = _season(str(body.game_id)), _player(str(body.user_id))
        call.require_season(season_id)
        if body.score < 0:
            raise InvalidRequestError("score must be 0 or more", code="invalid_score")
        key, at = key_in(call, None), moment_in_time(body.timestamp)
        score = Score(season_id, user_id, parse_score(body.score), key, True, None, at, call.traceparent)
        stored = await self._intake.submit(score)
        taken = GameScoreTaken(body.game_id, body.user_id, body.score, str(event_id_of(stored)))
        return json_answer(taken, 200, replay_header(stored))

    async def top(self, call: Call) -> Answer:
        game_id, query = call.scope["path_params"]["game_id"], call.query()
        season_id = _season(game_id)
        limit = whole_number_in(query, "limit", default=DEFAULT_TOP_LIMIT, lowest=1, highest=MAX_TOP_LIMIT)
        window = window_in(query)

        async def load() -> bytes:
            players, total, _ = await self._boards.top(season_id, limit, window=window)
            leaders = [
                Leader(int(user_id) if is_number(user_id) else user_id, score, rank)
                for rank, user_id, score in zip(*players, strict=True)
            ]
            return msgspec.json.encode(GameTop(int(game_id), leaders, total, window or _ALL))

        kept = await self._top_cache.find(key_of(call.scope), season_id, load)
        return kept.to(call.header(b"if-none-match"))

    async def rank(self, call: Call) -> Answer:
        game_id, user_id = (call.scope["path_params"][name] for name in ("game_id", "user_id"))
        season_id, player, window = _season(game_id), _player(user_id), window_in(call.query())
        rank, score, total = await self._boards.rank(season_id, player, window=window)
        found = GameRank(int(game_id), int(user_id), score, rank, percentile(rank, total), total, window or _ALL)
        return json_answer(found, headers=_NOW)


def games_path(word: str, ids: int) -> str:
    """The path of a word and so many ids."""
    return f"/api/leaderboard/{word}{''.join(('/{game_id}', '/{user_id}')[:ids])}"


def _season(game_id: str) -> SeasonId:
    return season_of_game(parse_number(game_id, "game_id", "invalid_game_id"))


def _player(user_id: str) -> UserId:
    return UserId(str(parse_number(user_id, "user_id", "invalid_user_id")))
