"""The OpenAPI 3.1 document of every path, and the route that serves it.

It repeats no bound and no field of its own. A test keeps its paths equal to the application's routes; another one asks
the service everything that the document allows and forbids.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec
from starlette.routing import Route

from api import (
    openapi_batches,
    openapi_boards,
    openapi_epochs,
    openapi_events,
    openapi_exports,
    openapi_games,
    openapi_moderation,
    openapi_ops,
    openapi_seasons,
    openapi_streams,
)
from api.access import Need
from api.answers import Answer
from api.endpoint import Call, Endpoint
from api.errors import ErrorBody
from api.ledger_writes import CONFLICTS
from api.openapi_parts import (
    BOUNDS,
    HEADERS,
    KEY_HEADER,
    SID,
    Json,
    add_access,
    answer,
    json_content,
    operation,
    schema_of,
)
from api.seasons_api import ScoreBody
from shared.probes import Readiness

PATH: Final = "/openapi.json"

_STRUCTS: Final = (
    *(ScoreBody, Readiness, ErrorBody),
    *openapi_batches.STRUCTS,
    *openapi_boards.STRUCTS,
    *openapi_epochs.STRUCTS,
    *openapi_events.STRUCTS,
    *openapi_games.STRUCTS,
    *openapi_moderation.STRUCTS,
    *openapi_ops.STRUCTS,
    *openapi_seasons.STRUCTS,
    *openapi_streams.STRUCTS,
)
_EITHER: Final = {"ScoreBody": ("delta", "score"), "EventChoice": ("ids", "seasonId"), **openapi_seasons.EITHER}
"""Of these fields of a body there must be one, and no other of them."""


class Health(msgspec.Struct, frozen=True):
    """The body of /healthz."""

    status: str


_ADMINISTERED: Final = ("/close", "/void", "/hide", "/unhide", "/moderations", "/export")


def _link(operation: str, **parameters: str) -> Json:
    return {"operationId": operation, "parameters": {"sid": "$response.body#/seasonId", **parameters}}


def _paths() -> Json:
    user = {"userId": "$response.body#/userId"}
    queued, applied = openapi_events.queued(), openapi_events.applied()
    queued["links"] = applied["links"] = {
        "top": _link("top"),
        "rank": _link("rank", **user),
        "around": _link("around", **user),
        "event": _link("event", eid="$response.body#/eventId"),
        "season": _link("season"),
        "delete": _link("deleteSeason"),
    }
    add_score = operation(
        "addScore",
        "Add points to a player's score, or take them away",
        [SID, KEY_HEADER, openapi_events.WAIT_FOR_SCORE],
        {200: applied, 202: queued},
        {
            400: [
                *(
                    "invalid_season_id",
                    "invalid_user_id",
                    "invalid_delta",
                    "invalid_score",
                    "invalid_epoch",
                ),
                "invalid_idempotency_key",
                *("invalid_wait", "invalid_query"),
                *("invalid_json", "invalid_body", "score_refused", "incomplete"),
            ],
            408: ["body_timeout"],
            409: sorted(CONFLICTS),
            413: ["body_too_large"],
            422: ["idempotency_key_reused"],
            503: ["overloaded", "deadline_exceeded", "postgres_unavailable"],
        },
        requestBody={"required": True, "content": json_content(schema_of(ScoreBody), {"userId": "ann", "delta": 25})},
    )
    ready = {"status": "ready", "redis": "ok", "postgres": "ok", "schema": "ok"}
    season = "/v1/seasons/{sid}"
    return {
        f"{season}/scores": {"post": add_score},
        f"{season}/scores/batch": {"post": openapi_batches.add_scores()},
        **openapi_boards.paths(season),
        **openapi_streams.paths(season),
        **openapi_epochs.paths(season),
        **openapi_events.paths(season),
        **openapi_exports.paths(season),
        **openapi_games.paths(),
        **openapi_moderation.paths(season),
        **openapi_ops.paths(),
        season: openapi_seasons.season(),
        f"{season}/close": openapi_seasons.close(),
        "/v1/seasons": openapi_seasons.seasons(),
        "/healthz": {
            "get": operation(
                "healthz",
                "Whether the process turns",
                [],
                {200: answer("It does.", schema_of(Health), {"status": "ok"})},
                {},
            )
        },
        "/readyz": {
            "get": operation(
                "readyz",
                "Whether the servers behind answer",
                [],
                {
                    200: answer("They do.", schema_of(Readiness), ready),
                    503: answer(
                        "Not all of them.", schema_of(Readiness), {**ready, "status": "not_ready", "redis": "down"}
                    ),
                },
                {},
            )
        },
        PATH: {
            "get": operation(
                "openapi",
                "This document",
                [],
                {200: answer("An OpenAPI 3.1 document.", {"type": "object"}, {"openapi": "3.1.0"})},
                {},
            )
        },
    }


def _tag(path: str) -> str:
    """Under which heading a page shows it."""
    if path.startswith("/api/"):
        return "Games"
    if path.startswith("/v1/ops/"):
        return "Operations"
    if "/scores" in path or "/events" in path:
        return "Scores"
    if "/leaderboard" in path or path.startswith("/v1/users"):
        return "Boards"
    return "Seasons" if path.startswith("/v1/seasons") else "Service"


def need_of(path: str, method: str) -> Need:
    """What the endpoint needs; a test compares it with the routes."""
    if _tag(path) == "Service" or path == "/api/health":
        return Need.OPEN
    if method in ("put", "delete") or path.endswith(_ADMINISTERED) or path.startswith("/v1/ops/"):
        return Need.ADMIN
    return Need.WRITE if method == "post" and path.endswith(("/scores", "/batch", "/score")) else Need.READ


@cache
def document() -> Json:
    """The whole document."""
    _, schemas = msgspec.json.schema_components([*_STRUCTS, Health], ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        for name, field in schema.get("properties", {}).items():
            field.update(BOUNDS.get(name, {}))
    for name, bounds in (openapi_games.FIELDS | openapi_moderation.FIELDS | openapi_seasons.FIELDS).items():
        for field, bound in bounds.items():
            schemas[name]["properties"][field].update(bound)
    for name, fields in _EITHER.items():
        schemas[name]["oneOf"] = [{"required": [field]} for field in fields]
    paths = _paths()
    for path, operations in paths.items():
        for method, found in operations.items():
            found["tags"] = [_tag(path)]
            add_access(found, need_of(path, method))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Season leaderboard",
            "version": "1",
            "description": "Leaderboards for game back ends. Beside what is listed, a path that is none gets 404 "
            "`not_found`, a method that a path does not take 405 `method_not_allowed` with an Allow header.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": HEADERS,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key that `leaderboard keys create` made. As long as none was made, none is "
                    "needed where only the machine itself reaches the service, or where it was told so.",
                }
            },
        },
    }


async def _serve(_call: Call) -> Answer:
    return Answer(200, _encoded())


@cache
def _encoded() -> bytes:
    return msgspec.json.encode(document())


def route() -> Route:
    return Route(PATH, Endpoint(_serve, Need.OPEN), methods=["GET"])
