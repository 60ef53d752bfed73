"""The OpenAPI description of a season's epochs and their boards."""

from __future__ import annotations

from typing import Final

from api.epoch_answers import EpochAround, EpochRank, Epochs, EpochTop, SeasonEpoch
from api.epochs_api import DEFAULT_PAGE, MAX_PAGE
from api.openapi_parts import (
    ANN,
    BOUNDS,
    IF_NONE_MATCH,
    READ,
    SEASON,
    SID,
    USER,
    Json,
    answer,
    empty_answer,
    operation,
    query,
    schema_of,
)
from shared import scores

STRUCTS: Final = (SeasonEpoch, Epochs, EpochTop, EpochRank, EpochAround)

_EPOCH: Final[Json] = {
    "name": "epoch",
    "in": "path",
    "required": True,
    "description": "The epoch: the current one, or one that was archived.",
    "schema": {"type": "integer", **BOUNDS["epoch"]},
    "example": 1,
}
_RULES: Final = {"aggregation": "sum", "order": "desc", "windows": False, "tieBreak": "member"}
_CURRENT: Final = {
    "epoch": 2,
    "state": "current",
    "beganAt": "2026-11-24T10:00:00Z",
    "endedAt": None,
    "reason": None,
    "sealedAt": None,
    "players": 0,
    **_RULES,
}
_ARCHIVED: Final = {
    **_CURRENT,
    "epoch": 1,
    "state": "archived",
    "beganAt": "2026-11-17T10:00:00Z",
    "endedAt": "2026-11-24T10:00:00Z",
    "reason": "reset",
    "sealedAt": "2026-11-24T10:00:01Z",
    "players": 1,
}
_RANKED: Final = {"rank": 1, "userId": "ann", "score": 25}
_NUMBER: Final = {"type": "string", "pattern": "^[0-9]{1,9}$"}
_MISSING: Final = ["season_not_found", "epoch_not_found"]
_BEHIND: Final = {503: [*READ[503], "postgres_unavailable"]}
_SEALING: Final = {409: ["epoch_sealing"], **_BEHIND}


def paths(season: str) -> Json:
    """By path; `season` is the path of one."""
    board = f"{season}/epochs/{{epoch}}/leaderboard"
    return {
        f"{season}/epochs": {"get": _epochs()},
        f"{board}/top": {"get": _top()},
        f"{board}/rank": {"get": _rank()},
        f"{board}/around": {"get": _around()},
    }


def _epochs() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}
    found = {"seasonId": SEASON, "items": [_CURRENT, _ARCHIVED], "nextCursor": None}
    return operation(
        "epochs",
        "A season's epochs, the newest first, a page at a time",
        [
            SID,
            query("limit", limit, "How many, at most.", DEFAULT_PAGE),
            query("cursor", _NUMBER, "nextCursor of the page before; left out: the first page."),
        ],
        {200: answer("The current one first.", schema_of(Epochs), found, "Cache-Control")},
        {
            400: ["invalid_season_id", "invalid_limit", "invalid_cursor", "invalid_query"],
            404: ["season_not_found"],
            **_BEHIND,
        },
    )


def _top() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": scores.MAX_TOP_LIMIT, "default": scores.DEFAULT_TOP_LIMIT}
    offset = {"type": "integer", "minimum": 0, "maximum": scores.MAX_OFFSET, "default": 0}
    cursor = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    found = {"seasonId": SEASON, "items": [_RANKED], "totalPlayers": 1, "nextCursor": None, "epoch": 1}
    return operation(
        "epochTop",
        "The best players of an epoch, best first",
        [
            SID,
            _EPOCH,
            query("limit", limit, "How many, at most.", scores.DEFAULT_TOP_LIMIT),
            query("offset", offset, "How many of the best ranks to leave out.", 0),
            query("cursor", cursor, "nextCursor of the page before; not together with offset."),
            IF_NONE_MATCH,
        ],
        {
            200: answer("As they stood in the end.", schema_of(EpochTop), found, "ETag", "Cache-Control"),
            304: empty_answer("The answer at hand still holds.", "ETag", "Cache-Control"),
        },
        {
            400: [
                *("invalid_season_id", "invalid_epoch", "invalid_limit", "invalid_offset", "invalid_cursor"),
                "invalid_query",
            ],
            404: _MISSING,
            **_SEALING,
        },
    )


def _rank() -> Json:
    found = {**ANN, "rank": 1, "score": 25, "percentile": 100.0, "totalPlayers": 1, "epoch": 1}
    return operation(
        "epochRank",
        "A player's final rank in an epoch",
        [SID, _EPOCH, USER, IF_NONE_MATCH],
        {
            200: answer("The player's place in the end.", schema_of(EpochRank), found, "ETag", "Cache-Control"),
            304: empty_answer("The answer at hand still holds.", "ETag", "Cache-Control"),
        },
        {
            400: ["invalid_season_id", "invalid_epoch", "invalid_user_id", "invalid_query"],
            404: [*_MISSING, "not_on_board"],
            **_SEALING,
        },
    )


def _around() -> Json:
    size = {"type": "integer", **BOUNDS["range"], "default": scores.DEFAULT_AROUND_RANGE}
    found = {**ANN, "range": 5, "items": [_RANKED], "epoch": 1}
    return operation(
        "epochAround",
        "The players around one, in an epoch",
        [SID, _EPOCH, USER, query("range", size, "How many on each side.", scores.DEFAULT_AROUND_RANGE), IF_NONE_MATCH],
        {
            200: answer("Fewer at the edges.", schema_of(EpochAround), found, "ETag", "Cache-Control"),
            304: empty_answer("The answer at hand still holds.", "ETag", "Cache-Control"),
        },
        {
            400: ["invalid_season_id", "invalid_epoch", "invalid_user_id", "invalid_range", "invalid_query"],
            404: [*_MISSING, "not_on_board"],
            **_SEALING,
        },
    )
