"""The OpenAPI description of the games API."""

from __future__ import annotations

from typing import Final

from api.games_api import GameHealth, GameRank, GameScore, GameScoreTaken, GameTop, Leader
from api.ledger_writes import CONFLICTS
from api.openapi_boards import WINDOW
from api.openapi_parts import (
    BOUNDS,
    IF_NONE_MATCH,
    KEY_HEADER,
    READ,
    Json,
    answer,
    empty_answer,
    json_content,
    operation,
    query,
    schema_of,
)
from shared import scores

STRUCTS: Final = (GameHealth, GameScore, GameScoreTaken, GameTop, GameRank, Leader)

_ID: Final[Json] = {"type": "integer", "minimum": 1, "maximum": scores.MAX_NUMBER}
_IDS: Final = {"game_id": _ID, "user_id": _ID}
_SCORE: Final = {"score": {"minimum": 0, "maximum": scores.MAX_SCORE}}
_PLACE: Final = {"score": BOUNDS["score"], "rank": {"minimum": 1}}

FIELDS: Final[dict[str, dict[str, Json]]] = {
    "GameScore": {**_IDS, **_SCORE},
    "GameScoreTaken": {**_IDS, **_SCORE},
    "Leader": _PLACE,
    "GameTop": {"game_id": _ID, "total_players": {"minimum": 0}},
    "GameRank": {**_IDS, **_PLACE, "total_players": {"minimum": 1}},
}
"""What the fields of these bodies hold, beyond their types."""

_EXAMPLE: Final = {"game_id": 7, "user_id": 42, "score": 1200}
_LEADER: Final = {"user_id": 42, "score": 1200, "rank": 1}


def paths() -> Json:
    """By path."""
    return {
        "/api/health": {"get": _health()},
        "/api/leaderboard/score": {"post": _add_score()},
        "/api/leaderboard/top/{game_id}": {"get": _top()},
        "/api/leaderboard/rank/{game_id}/{user_id}": {"get": _rank()},
    }


def _path(name: str, description: str, example: int) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": _ID,
        "example": example,
    }


_GAME: Final = _path("game_id", "The game.", 7)
_USER: Final = _path("user_id", "The player.", 42)


def _health() -> Json:
    found = {"status": "OK", "version": "0.1.0", "timestamp": "2026-11-26T12:00:00Z"}
    return operation(
        "gamesHealth",
        "Whether the process turns, and what it is",
        [],
        {200: answer("It does.", schema_of(GameHealth), found, "Cache-Control")},
        {},
    )


def _add_score() -> Json:
    taken = answer(
        "Durable; on the board within milliseconds.",
        schema_of(GameScoreTaken),
        {**_EXAMPLE, "event_id": "1041", "accepted": True},
        "Idempotent-Replayed",
    )
    return operation(
        "addGameScore",
        "Send a score of a player; the best one counts",
        [KEY_HEADER],
        {200: taken},
        {
            400: [
                *("invalid_game_id", "invalid_user_id", "invalid_score", "invalid_idempotency_key"),
                *("invalid_json", "invalid_body", "score_refused", "incomplete"),
            ],
            408: ["body_timeout"],
            409: sorted(CONFLICTS),
            413: ["body_too_large"],
            422: ["idempotency_key_reused"],
            503: ["overloaded", "deadline_exceeded", "postgres_unavailable"],
        },
        description="`timestamp` says when the score was reached, which decides how long it stays in the windows, and "
        "who of those with equal scores stands higher. A time that is still to come counts as now.",
        requestBody={"required": True, "content": json_content(schema_of(GameScore), _EXAMPLE)},
    )


def _top() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": scores.MAX_TOP_LIMIT, "default": scores.DEFAULT_TOP_LIMIT}
    found = {"game_id": 7, "leaders": [_LEADER], "total_players": 1, "window": "all"}
    return operation(
        "gameTop",
        "The best players of a game",
        [_GAME, query("limit", limit, "How many, at most.", scores.DEFAULT_TOP_LIMIT), WINDOW, IF_NONE_MATCH],
        {
            200: answer("An unknown game is an empty board.", schema_of(GameTop), found, "ETag", "Cache-Control"),
            304: empty_answer("The answer at hand still holds.", "ETag", "Cache-Control"),
        },
        {400: ["invalid_game_id", "invalid_limit", "invalid_window", "invalid_query"], 409: ["windows_off"], **READ},
    )


def _rank() -> Json:
    found = {**_EXAMPLE, "rank": 1, "percentile": 100.0, "total_players": 1, "window": "all"}
    return operation(
        "gameRank",
        "A player's rank in a game, 1 = best",
        [_GAME, _USER, WINDOW],
        {200: answer("The player's place.", schema_of(GameRank), found, "Cache-Control")},
        {
            400: ["invalid_game_id", "invalid_user_id", "invalid_window", "invalid_query"],
            404: ["not_on_board"],
            409: ["windows_off"],
            **READ,
        },
    )
