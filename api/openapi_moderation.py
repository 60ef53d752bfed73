"""The OpenAPI description of moderation and its audit."""

from __future__ import annotations

from typing import Final

from api.moderation_api import (
    DEFAULT_AUDIT,
    MAX_AUDIT,
    AuditEntry,
    AuditPage,
    ModerationQueued,
    ReasonBody,
)
from api.openapi_parts import (
    CURSOR,
    EID,
    READ,
    SEASON,
    SID,
    UID,
    Json,
    answer,
    json_content,
    operation,
    query,
    schema_of,
)
from shared.scores import CONTROL_CHARACTERS, MAX_REMARK_LENGTH

STRUCTS: Final = (ReasonBody, ModerationQueued, AuditEntry, AuditPage)

_REMARK: Final[Json] = {
    "minLength": 1,
    "maxLength": MAX_REMARK_LENGTH,
    "pattern": rf"^[^{CONTROL_CHARACTERS}]*[^\s{CONTROL_CHARACTERS}][^{CONTROL_CHARACTERS}]*$",
}
FIELDS: Final[dict[str, dict[str, Json]]] = {"ReasonBody": {"reason": _REMARK}}

_WHY: Final[Json] = {"reason": "used a speed hack", "by": "dana"}
_BEHIND: Final = {503: [*READ[503], "postgres_unavailable"]}
_QUEUED: Final[Json] = {"seasonId": SEASON, "eventId": "4711", "userId": "ann", "queued": True}
_ENTRY: Final[Json] = {
    "eventId": "4711",
    "action": "void",
    "userId": "ann",
    "target": "4242",
    "actor": "key 0f3a9c1d2e4b",
    **_WHY,
    "requestedAt": "2026-11-24T10:00:00Z",
    "appliedAt": "2026-11-24T10:00:00.012Z",
    "state": "done",
    "effect": "voided",
    "error": None,
}
_OF_BODY: Final = {
    400: ["invalid_season_id", "invalid_json", "invalid_body", "invalid_reason", "invalid_by", "incomplete"],
    404: ["season_not_found"],
    408: ["body_timeout"],
    413: ["body_too_large"],
    **_BEHIND,
}


def _queued(description: str, **more: str) -> Json:
    return answer(description, schema_of(ModerationQueued), {**_QUEUED, **more})


def _post(name: str, summary: str, action: str) -> Json:
    errors = {**_OF_BODY, 400: [*_OF_BODY[400], "invalid_user_id"]}
    return {
        "post": operation(
            name,
            summary,
            [SID, UID],
            {202: _queued("It is on its way, as a score is.", action=action)},
            errors,
            requestBody={"required": True, "content": json_content(schema_of(ReasonBody), _WHY)},
        )
    }


def paths(season: str) -> Json:
    """What is below a season."""
    void = operation(
        "voidEvent",
        "Have a score count no more",
        [SID, EID],
        {202: _queued("It is on its way, as a score is.", action="void", target="4242")},
        {
            **_OF_BODY,
            400: [*_OF_BODY[400], "invalid_event_id"],
            404: ["season_not_found", "event_not_found"],
            409: ["event_given_up", "epoch_over"],
        },
        requestBody={"required": True, "content": json_content(schema_of(ReasonBody), _WHY)},
    )
    erase = operation(
        "erasePlayer",
        "Erase a player: nothing of the season's ledger, outbox and boards names that player any more",
        [
            SID,
            UID,
            query("reason", {"type": "string", **_REMARK}, "Why.", "asked to be forgotten", required=True),
            query("by", {"type": "string", **_REMARK}, "Who asks for it, beside the key.", "dana"),
        ],
        {202: _queued("It is on its way, as a score is.", action="erase")},
        {
            400: ["invalid_season_id", "invalid_user_id", "invalid_reason", "invalid_by", "invalid_query"],
            404: ["season_not_found"],
            **_BEHIND,
        },
    )
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_AUDIT, "default": DEFAULT_AUDIT}
    audit = operation(
        "moderations",
        "The audit: who had what done to whom, when and why, newest first",
        [
            SID,
            query("limit", limit, "How many, at most.", DEFAULT_AUDIT),
            query("cursor", CURSOR, "nextCursor of the page before; left out: the first page."),
        ],
        {
            200: answer(
                "Those of this season.", schema_of(AuditPage), {"items": [_ENTRY], "nextCursor": None}, "Cache-Control"
            )
        },
        {
            400: ["invalid_season_id", "invalid_limit", "invalid_cursor", "invalid_query"],
            404: ["season_not_found"],
            **_BEHIND,
        },
    )
    return {
        f"{season}/events/{{eid}}/void": {"post": void},
        f"{season}/users/{{uid}}/hide": _post("hidePlayer", "Have a player on no board, from now on", "hide"),
        f"{season}/users/{{uid}}/unhide": _post("unhidePlayer", "Have a player back on the boards", "unhide"),
        f"{season}/users/{{uid}}": {"delete": erase},
        f"{season}/moderations": {"get": audit},
    }
