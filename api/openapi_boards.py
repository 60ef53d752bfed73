"""The OpenAPI description of what boards are asked."""

from __future__ import annotations

from typing import Final

from api.endpoint import TIES
from api.openapi_events import AFTER, WAIT_CODES
from api.openapi_parts import (
    ANN,
    BOUNDS,
    CURSOR,
    IF_NONE_MATCH,
    READ,
    SEASON,
    SID,
    UID,
    USER,
    Json,
    answer,
    empty_answer,
    json_content,
    operation,
    query,
    schema_of,
)
from api.past_answers import AroundScoreThen, AroundThen, PlayerThen, RankThen, TopThen
from api.rank_lookups import (
    DEFAULT_SEASONS,
    MAX_SEASONS,
    PlayerRank,
    Ranks,
    RanksBody,
    SeasonRank,
    UserRanks,
)
from api.seasons_api import Around, AroundScore, Rank, Top
from shared import scores
from shared.windows import WINDOWS

STRUCTS: Final = (
    *(Top, Rank, Around, AroundScore, RanksBody, Ranks, PlayerRank, UserRanks, SeasonRank),
    *(TopThen, RankThen, AroundThen, AroundScoreThen, PlayerThen),
)

_RANKED: Final = {"rank": 1, "userId": "ann", "score": 25}
_PLACE: Final = {"rank": 1, "score": 25, "percentile": 100.0}
_QUERY: Final = ["invalid_ties", "invalid_query"]
_READ_LEDGER: Final = {503: [*READ[503], "postgres_unavailable"]}
TIES_QUERY: Final = query(
    "ties",
    {"type": "string", "enum": list(TIES), "default": "ordinal"},
    "ordinal: equal scores are ranked one behind the other. competition: they share the best rank of them.",
    "ordinal",
)
WINDOW: Final = query(
    "window",
    {"type": "string", "enum": list(WINDOWS)},
    "What was reached within the last hours or days, in seasons with windows; left out: of all time.",
)
_MOMENT: Final = {"type": "string", "format": "date-time"}
THEN: Final = (
    query("asOf", _MOMENT, "The board as it was then, by the ledger; of all time only. A moment until now."),
    query("movementSince", _MOMENT, "With each player's rank of then, and how many ranks higher it is now."),
)


def paths(season: str) -> Json:
    """By path; `season` is the path of one."""
    return {
        f"{season}/leaderboard/top": {"get": _top()},
        f"{season}/leaderboard/rank": {"get": _rank()},
        f"{season}/leaderboard/around": {"get": _around()},
        f"{season}/leaderboard/ranks": {"post": _ranks()},
        "/v1/users/{uid}/ranks": {"get": _user_ranks()},
    }


def limit_of_top() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": scores.MAX_TOP_LIMIT, "default": scores.DEFAULT_TOP_LIMIT}
    return query("limit", limit, "How many, at most.", scores.DEFAULT_TOP_LIMIT)


def _top() -> Json:
    offset = {"type": "integer", "minimum": 0, "maximum": scores.MAX_OFFSET, "default": 0}
    either = {"anyOf": [schema_of(Top), schema_of(TopThen)]}
    found = {"seasonId": SEASON, "items": [_RANKED], "totalPlayers": 1, "nextCursor": None}
    return operation(
        "top",
        "The best players, best first",
        [
            SID,
            limit_of_top(),
            query("offset", offset, "How many of the best to leave out.", 0),
            query("cursor", CURSOR, "nextCursor of the page before; not together with offset."),
            WINDOW,
            TIES_QUERY,
            *THEN,
            *AFTER,
            IF_NONE_MATCH,
        ],
        {
            200: answer("An unknown season is an empty board.", either, found, "ETag", "Cache-Control"),
            304: empty_answer("The answer at hand still holds.", "ETag", "Cache-Control"),
        },
        {
            400: [
                "invalid_season_id",
                "invalid_limit",
                "invalid_offset",
                "invalid_cursor",
                "invalid_window",
                "invalid_moment",
                *WAIT_CODES,
                *_QUERY,
            ],
            404: ["event_not_found"],
            409: ["windows_off"],
            410: ["epoch_gone"],
            **_READ_LEDGER,
        },
    )


def _rank() -> Json:
    found = {**ANN, **_PLACE, "totalPlayers": 1}
    return operation(
        "rank",
        "A player's rank, 1 = best",
        [SID, USER, WINDOW, TIES_QUERY, *THEN, *AFTER],
        {200: answer("The player's place.", {"anyOf": [schema_of(Rank), schema_of(RankThen)]}, found, "Cache-Control")},
        {
            400: ["invalid_season_id", "invalid_user_id", "invalid_window", "invalid_moment", *WAIT_CODES, *_QUERY],
            404: ["not_on_board", "event_not_found"],
            409: ["windows_off"],
            410: ["epoch_gone"],
            **_READ_LEDGER,
        },
    )


def _around() -> Json:
    size = {"type": "integer", **BOUNDS["range"], "default": scores.DEFAULT_AROUND_RANGE}
    structs = (Around, AroundScore, AroundThen, AroundScoreThen)
    either = {"anyOf": [schema_of(struct) for struct in structs]}
    example = {**ANN, "range": 5, "items": [_RANKED]}
    found = answer("Fewer at the edges; all of one moment.", either, example, "Cache-Control")
    return operation(
        "around",
        "The players around one, or around a score",
        [
            SID,
            {**USER, "required": False, "description": "The player; this or score must be there."},
            query("score", {"type": "integer", **BOUNDS["score"]}, "The score, instead of a player."),
            query("range", size, "How many on each side.", scores.DEFAULT_AROUND_RANGE),
            WINDOW,
            TIES_QUERY,
            *THEN,
            *AFTER,
        ],
        {200: found},
        {
            400: [
                "invalid_season_id",
                "invalid_user_id",
                "invalid_score",
                "invalid_range",
                "invalid_window",
                "invalid_moment",
                *WAIT_CODES,
                *_QUERY,
            ],
            404: ["not_on_board", "event_not_found"],
            409: ["windows_off"],
            410: ["epoch_gone"],
            **_READ_LEDGER,
        },
    )


def _ranks() -> Json:
    found = {"seasonId": SEASON, "totalPlayers": 1, "items": [{"userId": "ann", **_PLACE}], "notFound": ["bob"]}
    return operation(
        "ranks",
        "The ranks of many players",
        [SID, WINDOW, TIES_QUERY],
        {200: answer("Each player once.", schema_of(Ranks), found, "Cache-Control")},
        {
            400: [
                "invalid_season_id",
                "invalid_user_id",
                "invalid_window",
                *_QUERY,
                "invalid_json",
                "invalid_body",
                "incomplete",
            ],
            408: ["body_timeout"],
            409: ["windows_off"],
            413: ["body_too_large"],
            **READ,
        },
        requestBody={"required": True, "content": json_content(schema_of(RanksBody), {"userIds": ["ann", "bob"]})},
    )


def _user_ranks() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_SEASONS, "default": DEFAULT_SEASONS}
    cursor = {"type": "string", **BOUNDS["seasonId"]}
    found = {"userId": "ann", "items": [{"seasonId": SEASON, **_PLACE, "totalPlayers": 1}], "nextCursor": None}
    return operation(
        "userRanks",
        "A player's ranks in all seasons, a page at a time",
        [
            UID,
            query("limit", limit, "How many seasons, at most.", DEFAULT_SEASONS),
            query("cursor", cursor, "nextCursor of the page before; left out: the first page.", SEASON),
            WINDOW,
            TIES_QUERY,
        ],
        {200: answer("In the order of the seasons' ids.", schema_of(UserRanks), found, "Cache-Control")},
        {
            400: ["invalid_user_id", "invalid_limit", "invalid_cursor", "invalid_window", *_QUERY],
            503: [*READ[503], "postgres_unavailable"],
        },
    )
