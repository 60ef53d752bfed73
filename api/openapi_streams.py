"""The OpenAPI description of a season's stream."""

from __future__ import annotations

from typing import Any, Final

from api.openapi_boards import TIES_QUERY, WINDOW, limit_of_top
from api.openapi_parts import READ, SID, USER, Json, empty_answer, operation, schema_of
from api.seasons_api import Rank, Top
from api.stream_states import NoRank

STRUCTS: Final = (NoRank,)

_EXAMPLE: Final = (
    'retry: 1812\n\nevent: top\nid: 5c1f3a0f9d2b7e64\ndata: {"seasonId":"spring-26","items":[{"rank":1,"userId":"ann",'
    '"score":25}],"totalPlayers":1,"nextCursor":null}\n\nevent: rank\nid: 5c1f3a0f9d2b7e64.9b0d6c1e48a2f735\ndata: '
    '{"seasonId":"spring-26","userId":"ann","rank":1,"score":25,"percentile":100.0,"totalPlayers":1}\n\n:\n\n'
)
_LAST_EVENT_ID: Final[Json] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that came: what it stands for is not sent again before it changes.",
    "schema": {"type": "string"},
    "example": "5c1f3a0f9d2b7e64",
}


def paths(season: str) -> Json:
    """By path; `season` is the path of one."""
    return {f"{season}/leaderboard/stream": {"get": _stream()}}


def _stream() -> Json:
    return operation(
        "stream",
        "The best players and a player's rank, as they change",
        [
            SID,
            limit_of_top(),
            {**USER, "required": False, "description": "The player whose rank is told too."},
            WINDOW,
            TIES_QUERY,
            _LAST_EVENT_ID,
        ],
        {
            200: {
                **empty_answer(
                    "Server-sent events until the client leaves: `top` with what GET top answers, `rank` with what GET "
                    "rank answers (`rank` null while the player is not on the board), each at the beginning and "
                    "whenever it changes.",
                    "Cache-Control",
                ),
                "content": {"text/event-stream": _events()},
            }
        },
        {
            400: [
                *("invalid_season_id", "invalid_limit", "invalid_user_id", "invalid_window"),
                *("invalid_ties", "invalid_query"),
            ],
            409: ["windows_off"],
            **READ,
        },
    )


def _events() -> dict[str, Any]:
    """OpenAPI 3.1 has no words for the items of such a stream; x-events says what their data is."""
    rank = {"anyOf": [schema_of(Rank), schema_of(NoRank)]}
    return {
        "schema": {"type": "string"},
        "example": _EXAMPLE,
        "x-events": {"top": schema_of(Top), "rank": rank},
    }
