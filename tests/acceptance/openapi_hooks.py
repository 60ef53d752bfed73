"""Hooks of the conformance run: what OpenAPI can't say about this service."""

from __future__ import annotations

import json
import re

import schemathesis

INTEGERS = ("delta", "score", "epoch", "game_id", "user_id")
YEARS = {"startsAt": "2026", "endsAt": "2027", "occurredAt": "2026", "timestamp": "2026"}
PAST = ("asOf", "movementSince")
ITS_OWN = {
    "resets": {"cron": "0 0 * * 1", "timeZone": "Europe/Berlin", "archive": True},
    "rewards": {"url": "https://game.example/season-closed", "top": 100},
}
MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+")


@schemathesis.serializer("application/x-ndjson")
def in_lines(_context, items):
    """A JSON text a line."""
    return b"\n".join(json.dumps(item).encode() for item in items) if isinstance(items, list) else json.dumps(items)


@schemathesis.hook
def filter_body(_context, body):
    """To JSON Schema 1.0 is an integer; here a score is written as one, so such a body is neither right nor wrong."""
    if not isinstance(body, dict):
        return True
    ids = body.get("ids")
    numbers = [body.get(name) for name in INTEGERS] + (ids if isinstance(ids, list) else [])
    return not any(isinstance(number, float) for number in numbers)


@schemathesis.hook
def map_body(_context, body):
    """Moments that any calendar has, the end behind the start."""
    for item in body if isinstance(body, list) else [body]:
        if isinstance(item, dict):
            for name, year in YEARS.items():
                if isinstance(item.get(name), str) and MOMENT.fullmatch(item[name]):
                    item[name] = year + item[name][4:]
    return body


@schemathesis.hook
def map_query(_context, query):
    """Moments that are over, of a year that has every day."""
    for name in PAST:
        if isinstance((query or {}).get(name), str) and MOMENT.fullmatch(query[name]):
            query[name] = "2024" + query[name][4:]
    return query


@schemathesis.hook
def filter_case(_context, case):
    """Header and eventId must say the same where both are given; around takes a player or a score; a cursor comes from
    the page before; a read waits for something, and for nothing of the past; boards of the past have no windows, and
    movement is told of few players."""
    body = case.body if isinstance(case.body, dict) else {}
    # What is a schedule and what a receiver, and when, a schema can't say: none but the document's own.
    if any(isinstance(body.get(name), dict) and body[name] != allowed for name, allowed in ITS_OWN.items()):
        return False
    query = case.query or {}
    if any(name in query for name in PAST) and {"window", "limit", "range", "after", "wait"} & query.keys():
        return False
    if case.method == "GET" and "wait" in query and "after" not in query:
        return False
    if case.operation.path.endswith("/around"):
        return ("userId" in query) != ("score" in query)
    if case.operation.path.endswith(("/top", "/events", "/moderations")) and "cursor" in query:
        return False
    in_body = isinstance(case.body, dict) and case.body.get("eventId") is not None
    return not (in_body and "Idempotency-Key" in (case.headers or {}))
