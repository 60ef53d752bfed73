"""Asking for moderation, and its audit: who asked for what, when and why, and what came of it.

A request is an event of the outbox and a row of the audit, written together; `shared.moderation` applies it. Every
statement takes its caller's connection.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, NamedTuple

from shared import events
from shared.errors import ConflictError, EventNotFoundError, SeasonNotFoundError
from shared.moderation import Action
from shared.postgres import Connection
from shared.scores import MAX_NUMBER, EventId, SeasonId, UserId
from shared.setbacks import Status

_SEASON: Final = "select epoch from seasons where season_id = %s"

_ASK: Final = """
with event as (
  insert into outbox (id, event_type, season_id, epoch, user_id, delta, target)
  values (nextval('score_events_id_seq'), %(action)s, %(season_id)s, %(epoch)s, %(user_id)s, 0, %(target)s)
  returning id, created_at
)
insert into moderations (id, season_id, action, user_id, event_id, actor, by, reason, requested_at)
select id, %(season_id)s, %(action)s, %(user_id)s, %(target)s, %(actor)s, %(by)s, %(reason)s, created_at from event
returning id
"""

AUDIT: Final = """
select moderation.id, action, moderation.user_id, event_id, actor, by, reason, requested_at, applied_at, effect,
  coalesce(event.status, 'done'), event.last_error
from moderations as moderation left join outbox as event on event.id = moderation.id
where moderation.season_id = %s and moderation.id < %s order by moderation.id desc limit %s
"""


class Wish(NamedTuple):
    """`actor`: the key by which it is asked; `by`: who that is, as the request says; `reason`: why."""

    actor: str
    by: str | None
    reason: str


class Entry(NamedTuple):
    """A row of the audit. `user_id` None: of a player who was erased. `effect` None: not applied yet, or refused by the
    database, as `error` says; of an erasure that has begun how far it is. `status`: that of its outbox event."""

    id: EventId
    action: Action
    user_id: UserId | None
    event_id: int | None
    actor: str
    by: str | None
    reason: str
    requested_at: dt.datetime
    applied_at: dt.datetime | None
    effect: str | None
    status: Status
    error: str | None


async def ask_for(conn: Connection, action: Action, season_id: SeasonId, user_id: UserId, wish: Wish) -> EventId:
    """Have the player hidden, shown again or erased; returns the event's id. Raises SeasonNotFoundError."""
    epoch = await _epoch(conn, season_id)
    return await _ask(conn, wish, action=action, season_id=season_id, epoch=epoch, user_id=user_id, target=None)


async def ask_to_void(conn: Connection, season_id: SeasonId, event_id: EventId, wish: Wish) -> tuple[EventId, UserId]:
    """Have an event of the season's current epoch voided; returns the id of the event that does it, and whose score it
    is. Raises EventNotFoundError; ConflictError where the event counts no more, or its epoch is over."""
    epoch = await _epoch(conn, season_id)
    event = await events.find(conn, season_id, event_id)
    if event is None or event.kind != "score" or event.user_id is None:
        raise EventNotFoundError(f"season {season_id} has no score with the eventId {event_id}")
    if event.state in ("voided", "discarded"):
        raise ConflictError(f"event {event_id} counts no more already", code="event_given_up")
    if event.epoch != epoch:
        raise ConflictError(
            f"event {event_id} is of epoch {event.epoch}, which is over: what its boards said stays", code="epoch_over"
        )
    asked = {"action": "void", "season_id": season_id, "epoch": epoch, "user_id": event.user_id, "target": event_id}
    return await _ask(conn, wish, **asked), event.user_id


async def audit(conn: Connection, season_id: SeasonId, before: EventId | None, limit: int) -> list[Entry]:
    """What was asked for in the season, newest first; `before`: of what was asked for before that one. Raises
    SeasonNotFoundError."""
    await _epoch(conn, season_id)
    return [
        Entry(*row)
        for row in await (
            await conn.execute(AUDIT, (season_id, MAX_NUMBER if before is None else before, limit))
        ).fetchall()
    ]


async def _epoch(conn: Connection, season_id: SeasonId) -> int:
    row = await (await conn.execute(_SEASON, (season_id,))).fetchone()
    if row is None:
        raise SeasonNotFoundError(f"there is no season {season_id}")
    return EventId(row[0])


async def _ask(conn: Connection, wish: Wish, **asked: Any) -> EventId:
    row = await (await conn.execute(_ASK, {**asked, **wish._asdict()})).fetchone()
    assert row is not None
    return EventId(row[0])
