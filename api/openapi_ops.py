"""The OpenAPI description of what operators ask."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from api.openapi_parts import (
    BOUNDS,
    SEASON,
    Json,
    answer,
    empty_answer,
    json_content,
    operation,
    query,
    schema_of,
)
from api.ops_api import (
    DEFAULT_FAILED,
    MAX_FAILED,
    OPS,
    Activity,
    Changed,
    EventChoice,
    FailedEvent,
    FailedPage,
    FailedReason,
    FailedSeason,
    OutboxGauge,
    Refused,
    SessionGroup,
)
from api.ops_work import RebuildBody, VerifyBody
from api.work_lines import NDJSON
from shared import overflows
from shared.scores import MAX_NUMBER

STRUCTS: Final = (
    *(OutboxGauge, FailedSeason, FailedReason, Activity, SessionGroup, FailedEvent, FailedPage),
    *(EventChoice, Changed, Refused, VerifyBody, RebuildBody),
)

_GAUGE: Final[Json] = {
    "pending": 12,
    "pendingExact": True,
    "oldestPendingSeconds": 0.008,
    "failed": 1,
    "acceptedPerSecond": 310.4,
    "donePerSecond": 309.8,
    "failedBySeason": [{"seasonId": SEASON, "events": 1}],
    "failedByReason": [{"reason": overflows.REASON, "events": 1}],
}
_SESSIONS: Final[Json] = {
    "process": "worker",
    "address": "10.0.0.7",
    "connections": 4,
    "busy": 1,
    "blocked": 0,
    "transactionSeconds": 0.004,
    "quietSeconds": 0.001,
}
_EVENT: Final[Json] = {
    "id": 61192,
    "seasonId": SEASON,
    "userId": "ann",
    "delta": 5,
    "attempts": 1,
    "reason": overflows.REASON,
    "createdAt": "2026-11-24T12:57:42Z",
}
_CHANGED: Final[Json] = {
    "changed": 1,
    "refused": [{"id": 61194, "reason": "event 61194 is done: only failed ones can be retried"}],
    "left": 0,
    "complete": True,
}
_VERIFIED: Final = (
    {"type": "progress", "seasons": 0, "ofSeasons": 1, "players": 0},
    {
        "type": "season",
        "seasonId": SEASON,
        "equal": True,
        "players": {"ledger": 190, "standings": 190, "board": 190},
        "differences": {},
        "first": [],
        "repaired": 0,
        "unsettled": None,
    },
    {"type": "finished", "equal": True, "seasons": 1, "players": 190, "differences": 0, "repaired": 0},
)
_REBUILT: Final = (
    {"type": "progress", "seasons": 0, "ofSeasons": 1, "seasonId": SEASON, "players": 0, "ofPlayers": 190},
    {"type": "season", "seasonId": SEASON, "players": 190, "seconds": 0.03},
    {"type": "finished", "seasons": 1, "players": 190},
)
_BEHIND: Final = {503: ["deadline_exceeded", "postgres_unavailable"]}
_CHANGING: Final = {503: [*_BEHIND[503], "redis_unavailable"]}
_BODY: Final[dict[int, list[str]]] = {
    400: ["invalid_json", "invalid_body", "invalid_season_id", "incomplete"],
    404: ["season_not_found"],
    408: ["body_timeout"],
    413: ["body_too_large"],
}


def paths() -> Json:
    return {
        f"{OPS}/outbox": {
            "get": _get("outbox", "How full the outbox is, and how fast it turns over", OutboxGauge, _GAUGE)
        },
        f"{OPS}/activity": {
            "get": _get(
                "activity",
                "Who works on the ledger",
                Activity,
                {"sessions": [_SESSIONS], "lastBatchSeconds": 0.01},
            )
        },
        f"{OPS}/failed": {"get": _failed()},
        f"{OPS}/failed/retry": {"post": _change("retryFailed", "Send failed events back to pending")},
        f"{OPS}/failed/discard": {"post": _change("discardFailed", "Give events up for good")},
        f"{OPS}/verify": {
            "post": _work("verify", "Compare ledger, standings and boards", VerifyBody, {"repair": False}, _VERIFIED)
        },
        f"{OPS}/rebuild": {"post": _work("rebuild", "Build boards anew", RebuildBody, {}, _REBUILT)},
    }


def _get(name: str, summary: str, struct: type[msgspec.Struct], example: Json) -> Json:
    found = answer("As of now.", schema_of(struct), example, "Cache-Control")
    return operation(name, summary, [], {200: found}, _BEHIND)


def _failed() -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_FAILED, "default": DEFAULT_FAILED}
    cursor = {"type": "string", "pattern": "^[0-9]{1,18}$"}
    page = answer("The newest first.", schema_of(FailedPage), {"items": [_EVENT], "nextCursor": None}, "Cache-Control")
    return operation(
        "failed",
        "Events that the database refused, a page at a time",
        [
            query("limit", limit, "How many, at most.", DEFAULT_FAILED),
            query("seasonId", {"type": "string", **BOUNDS["seasonId"]}, "Of this season; left out: of all."),
            query("cursor", cursor, "nextCursor of the page before; left out: the first page.", str(MAX_NUMBER // 10)),
        ],
        {200: page},
        {400: ["invalid_limit", "invalid_season_id", "invalid_cursor", "invalid_query"], **_BEHIND},
    )


def _change(name: str, summary: str) -> Json:
    return operation(
        name,
        summary,
        [],
        {200: answer("What became of them.", schema_of(Changed), _CHANGED, "Cache-Control")},
        {**_BODY, **_CHANGING},
        requestBody={"required": True, "content": json_content(schema_of(EventChoice), {"ids": [61192, 61194]})},
    )


def _work(name: str, summary: str, body: type[msgspec.Struct], further: Json, lines: tuple[Json, ...]) -> Json:
    told: dict[str, Any] = {
        **empty_answer(
            "A JSON text a line, as things happen: progress, season, then finished or failed.", "Cache-Control"
        ),
        "content": {
            NDJSON.decode(): {
                "schema": {"type": "string"},
                "example": "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines),
            }
        },
    }
    example = {"seasonIds": [SEASON], **further}
    return operation(
        name,
        summary,
        [],
        {200: told},
        {**_BODY, 409: ["already_running"], **_CHANGING},
        requestBody={"required": True, "content": json_content(schema_of(body), example)},
        description="The work ends with the connection. One of each at a time in a process.",
    )
