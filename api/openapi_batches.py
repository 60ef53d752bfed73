"""The OpenAPI description of a batch of scores."""

from __future__ import annotations

from typing import Final

from api.batch_format import MAX_ITEMS, BatchQueued, BatchRefused, ItemResult
from api.openapi_parts import SEASON, SID, Json, answer, json_content, operation, schema_of
from api.seasons_api import ScoreBody

STRUCTS: Final = (BatchQueued, BatchRefused, ItemResult)

_ITEMS: Final = [{"userId": "ann", "delta": 25, "eventId": "k1"}, {"userId": "bob", "delta": 3, "eventId": "k0"}]
_REFUSED: Final = {
    "status": "refused",
    "code": "idempotency_key_reused",
    "error": "the idempotency key k0 came with another userId or delta before; a new score needs a new key",
}
_CLOSED: Final = {
    "status": "refused",
    "code": "season_closed",
    "error": f"season {SEASON} is closed and takes no more scores",
}


def add_scores() -> Json:
    items = {"type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": schema_of(ScoreBody)}
    content = json_content(items, _ITEMS)
    # Of what comes in lines the schema is that of the array which the lines are. Its other names say nothing new.
    content["application/x-ndjson"] = {"schema": items}
    queued = {
        "seasonId": SEASON,
        "queued": 1,
        "replayed": 0,
        "refused": 1,
        "results": [{"status": "queued", "eventId": "1041"}, _REFUSED],
    }
    found = operation(
        "addScores",
        "Add thousands of scores in one transaction, with a result for each",
        [SID],
        {
            202: answer(
                "Durable but for those refused; on the board within milliseconds.", schema_of(BatchQueued), queued
            )
        },
        {
            400: [
                *("invalid_season_id", "invalid_idempotency_key", "invalid_json", "invalid_body"),
                *("batch_refused", "incomplete"),
            ],
            408: ["body_timeout"],
            409: ["batch_refused"],
            413: ["body_too_large"],
            503: ["overloaded", "deadline_exceeded", "postgres_unavailable"],
        },
        description=f"A JSON array, or a JSON object a line, of 1 to {MAX_ITEMS} scores. One that does not obey the "
        "schema is refused for itself: the others are taken.",
        requestBody={"required": True, "content": content},
    )
    for status, result in (("400", _REFUSED), ("409", _CLOSED)):
        refused = found["responses"][status]["content"]["application/json"]
        refused["examples"]["batch_refused"]["value"]["results"] = [result]
        results = {"if": {"properties": {"code": {"const": "batch_refused"}}}, "then": schema_of(BatchRefused)}
        refused["schema"]["allOf"].append(results)
    return found
