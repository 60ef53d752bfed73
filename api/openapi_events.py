"""The OpenAPI description of scores as events: one by its eventId, a player's, and reads that wait for one."""

from __future__ import annotations

from typing import Final

from api.applied_scores import Applied, Queued
from api.events_api import DEFAULT_EVENTS, MAX_EVENTS, EventResource, PlayerEvents
from api.openapi_parts import (
    ANN,
    CURSOR,
    EID,
    EVENT_ID,
    SID,
    UID,
    Json,
    answer,
    operation,
    query,
    schema_of,
)
from api.waiting import DEFAULT_WAIT_MS, MAX_WAIT_MS

STRUCTS: Final = (Queued, Applied, EventResource, PlayerEvents)


_EVENT: Final[Json] = {
    **ANN,
    "eventId": "1041",
    "type": "score",
    "delta": 25,
    "epoch": 1,
    "createdAt": "2026-11-24T10:00:00Z",
    "occurredAt": None,
    "state": "done",
    "effect": "counted",
    "processedAt": "2026-11-24T10:00:00.013Z",
}
_WAIT: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_MS}

AFTER: Final = (
    query("after", EVENT_ID, "eventId of a score: wait until it is on the board, then answer."),
    # No "default", which tools would send alone: it goes with after only.
    query("wait", _WAIT, f"How long to wait for it, milliseconds; left out: {DEFAULT_WAIT_MS}. Only with after."),
)
WAIT_CODES: Final = ("invalid_event_id", "invalid_wait")
WAIT_FOR_SCORE: Final = query(
    "wait", {**_WAIT, "default": 0}, "So many milliseconds to wait until the score is on the board; 0 = not at all."
)


def queued() -> Json:
    """What a score is answered with once it is stored."""
    told = {**ANN, "eventId": "1041", "queued": True}
    return answer("Durable; on the board within milliseconds.", schema_of(Queued), told, "Idempotent-Replayed")


def applied() -> Json:
    """What it is answered with once it is on the board."""
    told = {**ANN, "eventId": "1041", "score": 25, "rank": 1, "previousRank": None, "queued": False}
    return answer("Durable, and on the board.", schema_of(Applied), told, "Idempotent-Replayed")


def paths(season: str) -> Json:
    """By path; `season` is the path of one."""
    return {
        f"{season}/events/{{eid}}": {"get": _event()},
        f"{season}/users/{{uid}}/events": {"get": _player_events()},
    }


def _event() -> Json:
    return operation(
        "event",
        "What became of a score",
        [SID, EID],
        {200: answer("As it stands now.", schema_of(EventResource), _EVENT, "Cache-Control")},
        {
            400: ["invalid_season_id", "invalid_event_id"],
            404: ["event_not_found"],
            503: ["deadline_exceeded", "postgres_unavailable"],
        },
    )


def _player_events() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_EVENTS, "default": DEFAULT_EVENTS}
    found = {**ANN, "items": [_EVENT], "nextCursor": None}
    return operation(
        "playerEvents",
        "A player's scores in a season, newest first, a page at a time",
        [
            SID,
            UID,
            query("limit", limit, "How many, at most.", DEFAULT_EVENTS),
            query("cursor", CURSOR, "nextCursor of the page before; left out: the first page."),
        ],
        {200: answer("Of all epochs that are kept.", schema_of(PlayerEvents), found, "Cache-Control")},
        {
            400: ["invalid_season_id", "invalid_user_id", "invalid_limit", "invalid_cursor", "invalid_query"],
            503: ["deadline_exceeded", "postgres_unavailable"],
        },
    )
