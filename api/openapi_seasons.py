"""The OpenAPI description of seasons as resources."""

from __future__ import annotations

from typing import Final

from api.openapi_parts import BOUNDS, READ, SEASON, SID, Json, answer, json_content, operation, query, schema_of
from api.season_resources import (
    DEFAULT_PAGE,
    MAX_METADATA_BYTES,
    MAX_PAGE,
    Deleted,
    SeasonBody,
    SeasonPage,
    SeasonResource,
)
from api.tournament_bodies import ResetsBody, RewardsBody
from shared import schedules, webhook_targets

STRUCTS: Final = (SeasonBody, SeasonResource, SeasonPage, Deleted, ResetsBody, RewardsBody)
EITHER: Final = {"ResetsBody": ("cron", "everyDays")}
FIELDS: Final[dict[str, dict[str, Json]]] = {
    "ResetsBody": {
        "cron": {"maxLength": schedules.MAX_CRON_LENGTH},
        "everyDays": {"minimum": 1, "maximum": schedules.MAX_DAYS},
        "timeZone": {"description": "IANA's name."},
    },
    "RewardsBody": {
        "url": {"format": "uri", "maxLength": webhook_targets.MAX_URL_LENGTH},
        "top": {"minimum": 1, "maximum": webhook_targets.MAX_TOP},
    },
}

_BODY: Final[Json] = {
    "aggregation": "best",
    "order": "asc",
    "windows": True,
    "tieBreak": "earliest",
    "startsAt": "2026-12-01T00:00:00Z",
    "endsAt": "2027-01-01T00:00:00Z",
    "resets": {"cron": "0 0 * * 1", "timeZone": "Europe/Berlin", "archive": True},
    "rewards": {"url": "https://game.example/season-closed", "top": 100},
    "metadata": {"track": "Monza"},
}
_RESOURCE: Final[Json] = {
    "seasonId": SEASON,
    "state": "scheduled",
    "epoch": 1,
    "players": 0,
    **_BODY,
    "closedAt": None,
    "createdAt": "2026-11-24T10:00:00Z",
    "changedAt": None,
    "nextReset": "2026-12-06T23:00:00Z",
    "previousReset": None,
}
_BEHIND: Final = {503: [*READ[503], "postgres_unavailable"]}


def _season(description: str) -> Json:
    return answer(description, schema_of(SeasonResource), _RESOURCE, "Cache-Control")


def seasons() -> Json:
    """The list."""
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}
    cursor = {"type": "string", **BOUNDS["seasonId"]}
    page = answer(
        "In the order of their ids.",
        schema_of(SeasonPage),
        {"items": [_RESOURCE], "nextCursor": None},
        "Cache-Control",
    )
    return {
        "get": operation(
            "seasons",
            "All seasons, a page at a time",
            [
                query("limit", limit, "How many, at most.", DEFAULT_PAGE),
                query("cursor", cursor, "nextCursor of the page before; left out: the first page.", SEASON),
            ],
            {200: page},
            {400: ["invalid_limit", "invalid_cursor", "invalid_query"], **_BEHIND},
        )
    }


def season() -> Json:
    """One."""
    return {
        "get": operation(
            "season",
            "What a season is set to, and how it stands",
            [SID],
            {200: _season("The season.")},
            {400: ["invalid_season_id"], 404: ["season_not_found"], **_BEHIND},
        ),
        "put": operation(
            "putSeason",
            "Make a season, or set it anew",
            [SID],
            {200: _season("It is set so now."), 201: _season("It is made.")},
            {
                400: [
                    *("invalid_season_id", "invalid_json", "invalid_body", "invalid_times", "invalid_metadata"),
                    *("invalid_schedule", "invalid_rewards", "webhooks_off"),
                    "incomplete",
                ],
                408: ["body_timeout"],
                409: ["season_has_scores", "epoch_sealed"],
                413: ["body_too_large"],
                **_BEHIND,
            },
            description="What is left out is set as by default. Aggregation, order, windows and tieBreak are settled "
            f"once there are scores. `metadata` is at most {MAX_METADATA_BYTES} bytes. `resets`: when the season is "
            "emptied by itself and begins its next epoch. `rewards`: who is sent the final ranks of each.",
            requestBody={"required": True, "content": json_content(schema_of(SeasonBody), _BODY)},
        ),
        "delete": operation(
            "deleteSeason",
            "Empty a season; its old scores never come back",
            [
                SID,
                query(
                    "archive",
                    {"type": "boolean", "default": False},
                    "Whether the epoch that ends stays readable; one without scores is not ended for that.",
                    True,
                ),
            ],
            {
                200: answer(
                    "The board is empty, the season open.",
                    schema_of(Deleted),
                    {"seasonId": SEASON, "deleted": True, "epoch": 1, "archived": True},
                )
            },
            {
                400: ["invalid_season_id", "invalid_archive", "invalid_query"],
                503: ["deadline_exceeded", "postgres_unavailable", "redis_unavailable"],
            },
        ),
    }


def close() -> Json:
    return {
        "post": operation(
            "closeSeason",
            "Let a season take no more scores; its standings stay",
            [SID],
            {200: _season("It is closed.")},
            {400: ["invalid_season_id"], 404: ["season_not_found"], **_BEHIND},
        )
    }
