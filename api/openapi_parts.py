"""The parts that the OpenAPI document is put together from: bounds, parameters, answers, operations.

Bounds come from shared.scores, bodies from the structs; neither is written down a second time here.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from api.access import Need
from api.errors import ErrorBody
from api.refusals import HEAD_TIMEOUT, HEAD_TOO_LARGE, INVALID_HTTP, URL_TOO_LONG
from shared import scores

Json: TypeAlias = dict[str, Any]

_SEASON_ID: Final[Json] = {
    "minLength": 1,
    "maxLength": scores.MAX_SEASON_ID_LENGTH,
    "pattern": f"^[{scores.SEASON_ID_CHARACTERS}]+$",
}
_USER_ID: Final[Json] = {
    "minLength": 1,
    "maxLength": scores.MAX_USER_ID_LENGTH,
    "pattern": f"^[^{scores.CONTROL_CHARACTERS}]+$",
}
KEY: Final[Json] = {"minLength": 1, "maxLength": scores.MAX_KEY_LENGTH, "pattern": f"^[{scores.KEY_CHARACTERS}]+$"}
EVENT_ID: Final[Json] = {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"}
"""The ledger's id of an event, as text: not every client holds such numbers exactly."""
_SCORE: Final[Json] = {"minimum": -scores.MAX_SCORE, "maximum": scores.MAX_SCORE}

BOUNDS: Final[dict[str, Json]] = {
    "seasonId": _SEASON_ID,
    "userId": _USER_ID,
    "eventId": KEY,
    "delta": {**_SCORE, "not": {"const": 0}},
    "score": _SCORE,
    "rank": {"minimum": 1},
    "previousRank": {"minimum": 1},
    "range": {"minimum": 0, "maximum": scores.MAX_AROUND_RANGE},
    "players": {"minimum": 0},
    "metadata": {"type": ["object", "null"]},
    "totalPlayers": {"minimum": 0},
    "percentile": {"exclusiveMinimum": 0, "maximum": 100},
    "userIds": {"minItems": 1, "maxItems": scores.MAX_RANKS, "items": {"type": "string", **_USER_ID}},
    "epoch": {"minimum": 1, "maximum": scores.MAX_EPOCH},
}
"""What a field of this name holds, in whatever body it stands."""


_MESSAGES: Final = {
    "invalid_season_id": "season id must be 1 to 64 characters of A-Z a-z 0-9 . _ : -",
    "invalid_user_id": "userId is required and must not be empty",
    "invalid_delta": "delta must not be zero: send the points to add or take away",
    "invalid_score": "score must be within ±9007199254740991 (2^53 - 1), what every client can hold exactly",
    "invalid_epoch": "epoch must be from 1 to 2147483647, as GET says of the season",
    "invalid_archive": "archive must be true or false, not 'yes'",
    "epoch_not_found": "epoch 1 of season spring-26 has ended and was not archived: DELETE with archive=true keeps the "
    "one that it ends",
    "epoch_sealing": "epoch 1 of season spring-26 has ended and its final ranks are being settled; try again shortly",
    "epoch_sealed": "season spring-26 has ended and its final ranks are settled; endsAt can't be later any more, reset "
    "it with DELETE to go on",
    "invalid_window": "window must be one of 24h, 3d, 7d, or left out for all time, not '1h'",
    "invalid_game_id": "game_id must be a whole number from 1 to 9223372036854775807, not '0'",
    "windows_off": "season spring-26 has no windows: PUT it with windows true before its first score",
    "invalid_times": "startsAt must be before endsAt",
    "invalid_metadata": "metadata must be at most 4096 bytes of JSON, not 5000",
    "invalid_schedule": "resets must have either cron, or everyDays and startingAt",
    "invalid_rewards": "rewards.top must be from 1 to 1000, not 0",
    "webhooks_off": "rewards can't be sent: the service has no WEBHOOK_SECRET to sign them with",
    "invalid_cursor": "cursor must be the nextCursor of the page before, or be left out",
    "epoch_mismatch": "season spring-26 is in epoch 2, not in 1, which this score is for",
    "season_closed": "season spring-26 is closed and takes no more scores",
    "season_not_started": "season spring-26 takes no scores yet; GET /v1/seasons/spring-26 says from when",
    "wrong_aggregation": "season spring-26 adds up what its players get: send delta, the points to add, not score",
    "season_has_scores": "season spring-26 has scores: its aggregation sum and order desc stay what they are",
    "already_running": "a rebuild is under way in this process; wait for its end, or end the request that it serves",
    "event_given_up": "event 4242 counts no more already",
    "epoch_over": "event 4242 is of epoch 1, which is over: what its boards said stays",
    "invalid_reason": "reason must be 1 to 500 characters without control characters",
    "invalid_by": "by must be 1 to 500 characters without control characters",
    "season_not_found": "there is no season spring-26: PUT makes one, and so does a first score",
    "event_not_found": "season spring-26 has no event 1042; a 202 says the eventId of its score",
    "invalid_event_id": "eventId must be a whole number from 1 to 9223372036854775807, not 'k1'",
    "invalid_wait": "wait must be a whole number from 0 to 2000, not '5000'",
    "invalid_limit": "limit must be a whole number from 1 to 1000, not '0'",
    "invalid_offset": "offset must be a whole number from 0 to 999999999, not '-1'",
    "invalid_moment": "asOf must be a moment as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00%2B01:00, not 'noon'",
    "epoch_gone": "what season spring-26 was at that moment is gone: it was reset since then, and that epoch not "
    "archived",
    "invalid_format": "format must be one of ndjson and csv, not 'xlsx'",
    "invalid_ties": "ties must be one of ordinal and competition, not 'dense'",
    "invalid_range": "range must be a whole number from 0 to 100, not '-1'",
    "invalid_query": "the query string must be percent-encoded UTF-8 of at most 32 parameters",
    "invalid_json": "the body is not JSON: Input data was truncated",
    "invalid_body": "the body is not as expected: Object missing required field `userId`",
    "invalid_idempotency_key": "Idempotency-Key and eventId differ; send one of them, or both alike",
    "idempotency_key_reused": "the idempotency key k1 came with another userId or delta before",
    "batch_refused": "every score of the batch was refused; results says why",
    "score_refused": "the ledger does not take this score",
    "incomplete": "the client left before the body was complete",
    "not_on_board": "player is not on the board of this season",
    "body_timeout": "the body did not arrive within 10 s",
    "body_too_large": "the body must be at most 1048576 bytes",
    "internal_error": "internal error; please report it with the requestId",
    "unauthorized": "this needs a key: send the header Authorization: Bearer <key>",
    "invalid_key": "the key is not known, was revoked, or is incomplete",
    "insufficient_scope": "this needs a key with the scope write",
    "wrong_season": "the key is for seasons that begin with eu-, not for this season",
    "wrong_origin": "this page's origin is not in CORS_ORIGINS, and no key was made",
    "rate_limited": "more than 100 requests with this key in a second; try again in 1 s",
    "overloaded": "too many requests wait; not stored, try again shortly",
    "deadline_exceeded": "not done within 3 s; try again shortly",
    "postgres_unavailable": "the ledger does not answer; try again shortly",
    "redis_unavailable": "boards can't be read at the moment; try again shortly",
    **{refusal.code: refusal.message for refusal in (INVALID_HTTP, HEAD_TIMEOUT, URL_TOO_LONG, HEAD_TOO_LARGE)},
}

_ERROR_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_ON_EVERY_PATH: Final = {
    400: ["invalid_http"],
    408: ["head_timeout"],
    414: ["url_too_long"],
    431: ["head_too_large"],
    500: ["internal_error"],
}
READ: Final = {503: ["redis_unavailable", "overloaded", "deadline_exceeded"]}

SEASON: Final = "spring-26"
ANN: Final = {"seasonId": SEASON, "userId": "ann"}
SID: Final[Json] = {
    "name": "sid",
    "in": "path",
    "required": True,
    "description": "The season.",
    "schema": {"type": "string", **_SEASON_ID},
    "example": SEASON,
}
UID: Final[Json] = {
    "name": "uid",
    "in": "path",
    "required": True,
    "description": "The player.",
    "schema": {"type": "string", **_USER_ID},
    "example": "ann",
}
EID: Final[Json] = {
    "name": "eid",
    "in": "path",
    "required": True,
    "description": "The event, by the eventId that its request was answered with.",
    "schema": EVENT_ID,
    "example": "4242",
}
HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "The request's id, also in the log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Idempotent-Replayed": {
        "description": "The score with this key had been stored before.",
        "schema": {"type": "string", "const": "true"},
    },
    "ETag": {
        "description": "Names this answer; send it as If-None-Match to hear whether it still holds.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]{16}"$'},
    },
    "Cache-Control": {
        "description": "no-cache: a cache asks each time whether it still holds. no-store: true at this moment only. "
        "max-age: of a moment that is over.",
        "required": True,
        "schema": {"type": "string", "enum": ["no-cache", "no-store", "max-age=60"]},
    },
    "X-Season-Epoch": {"description": "The season's epoch.", "required": True, "schema": {"type": "integer"}},
    "X-Exported-At": {
        "description": "The moment of which the board is.",
        "required": True,
        "schema": {"type": "string", "format": "date-time"},
    },
    "X-Total-Players": {
        "description": "How many rows come.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {"description": "As RFC 6750 has it.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}},
}
KEY_HEADER: Final[Json] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes it safe to send the score again: of one key one counts. The same as the body's eventId.",
    "schema": {"type": "string", **KEY},
    "example": "5f0c4d52-7e1b-4a5e-9d55-3f1f3a4d8f10",
}
IF_NONE_MATCH: Final[Json] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of answers at hand, or *: 304 where one of them still holds.",
    "schema": {"type": "string"},
    "example": '"c7d3b0d1f2a94e60"',
}
_REQUEST_ID: Final[Json] = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Comes back with the answer where it is 1 to 64 characters of A-Z a-z 0-9 . _ -; else one is made.",
    "schema": {"type": "string"},
}


def query(name: str, schema: Json, description: str, example: Any = None, *, required: bool = False) -> Json:
    """Without an example where it does not go with those of the others."""
    found: Json = {"name": name, "in": "query", "description": description, "schema": schema}
    if example is not None:
        found["example"] = example
    return {**found, "required": True} if required else found


CURSOR: Final[Json] = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
USER: Final = query("userId", {"type": "string", **_USER_ID}, "The player.", "ann", required=True)


def json_content(schema: Json, example: Any) -> Json:
    return {"application/json": {"schema": schema, "example": example}}


def answer(description: str, schema: Json, example: Any, *headers: str) -> Json:
    return {**empty_answer(description, *headers), "content": json_content(schema, example)}


def empty_answer(description: str, *headers: str) -> Json:
    used = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)}
    return {"description": description, "headers": used}


def _error(status: int, codes: list[str]) -> Json:
    schema = {"allOf": [schema_of(ErrorBody), {"properties": {"code": {"enum": codes}}}]}
    examples = {
        code: {"value": {"error": _MESSAGES[code], "code": code, "requestId": "695a98e52c36-27105"}} for code in codes
    }
    found = answer(", ".join(f"`{code}`" for code in codes), schema, None, *_ERROR_HEADERS.get(status, ()))
    return {**found, "content": {"application/json": {"schema": schema, "examples": examples}}}


def add_access(found: Json, need: Need) -> None:
    """To an operation: which key it needs, and what is answered without."""
    if need is Need.OPEN:
        found["security"] = []
        return
    # Whether reading needs a key too, settings say.
    found["security"] = [{"key": []}, {}] if need is Need.READ else [{"key": []}]
    refusals = {
        401: ["unauthorized", "invalid_key"],
        403: ["insufficient_scope", "wrong_season", "wrong_origin"],
        429: ["rate_limited"],
    }
    responses = found["responses"] | {str(status): _error(status, codes) for status, codes in refusals.items()}
    found["responses"] = dict(sorted(responses.items()))


def schema_of(struct: type[msgspec.Struct]) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def operation(
    name: str,
    summary: str,
    parameters: list[Json],
    success: dict[int, Json],
    errors: dict[int, list[str]],
    **more: Any,
) -> Json:
    """An operation: its own errors and those of every path, each with its status."""
    codes = {
        status: [*errors.get(status, []), *_ON_EVERY_PATH.get(status, [])]
        for status in sorted(errors.keys() | _ON_EVERY_PATH.keys())
    }
    answers = success | {status: _error(status, found) for status, found in codes.items() if status not in success}
    return {
        "operationId": name,
        "summary": summary,
        "parameters": [*parameters, _REQUEST_ID],
        **more,
        "responses": {str(status): answer for status, answer in sorted(answers.items())},
    }
