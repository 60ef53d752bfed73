"""Erasing a player from a season: nothing in ledger, outbox or standings names that player any more.

Under the season's lock, with its new token. Not even a tombstone stays, so boards from before are built anew where they
turn out to have lost something (`shared.seasons.note_erased`).
"""

from __future__ import annotations

from typing import Any, Final

from shared import deliveries, seasons, snapshots
from shared.player_entries import of_player
from shared.postgres import Connection
from shared.scores import SeasonId, UserId

_PLAYER: Final = {"season_id": "%(season_id)s::text", "user_id": "%(user_id)s::text"}

# Scores that came later than the wish to be erased stay: whoever plays again begins anew. Read once: one with a lower
# id that is committed after this counts as later too, or its row would be deleted and its event folded.
_EVENTS: Final = f"""
select array(select id from score_events as entry where {of_player("entry", **_PLAYER)} and id < %(before)s),
  array(select id from moderations where season_id = %(season_id)s and user_id = %(user_id)s and id < %(before)s)
"""  # noqa: S608 - constants

_PENDING: Final = "select count(*) from outbox where id = any(%s) and status in ('pending', 'failed')"

# Never waited for, see `shared.moderation`.
_LOCK: Final = """
select count(*) from (
  select from outbox where id = any(%s) and status in ('pending', 'failed') for update skip locked
) as held
"""

# An idempotency key is written in its event's transaction, whose beginning both have as their time, the event with some
# microseconds for its place, 10 ms at most. Keys are looked through a span of time after the other, once each.
_KEYS: Final = f"""
with sent as materialized (
  select id, created_at from score_events as entry where {of_player("entry", **_PLAYER)} and id = any(%(scores)s)
), spans as materialized (
  select distinct date_bin('10 milliseconds', created_at, timestamptz 'epoch') as began from sent
)
delete from idempotency_keys where ctid = any(array(
  select kept.ctid from spans cross join lateral (
    select ctid, event_id from idempotency_keys
    where created_at >= spans.began - interval '10 milliseconds'
      and created_at < spans.began + interval '10 milliseconds' offset 0
  ) as kept
  where kept.event_id in (select id from sent)
))
"""  # noqa: S608 - constants

_LEDGER: Final = f"""
delete from score_events as entry where {of_player("entry", **_PLAYER)} and id = any(%(scores)s)
"""  # noqa: S608 - constants

_REMAINING: Final = f"""
select count(*) from score_events as entry where {of_player("entry", **_PLAYER)}
"""  # noqa: S608 - constants

_OUTBOX: Final = "delete from outbox where id = any(%s) and id <> %s"

# That it was erased stays, and not who.
_UNNAMED: Final = (
    "update outbox set user_id = '' where id = %(before)s",
    """
    update moderations set user_id = null
    where season_id = %(season_id)s and (id = any(%(moderations)s) or id = %(before)s)
    """,
)

_STATE: Final = (
    "delete from final_ranks where season_id = %(season_id)s and user_id = %(user_id)s",
    "delete from standings where season_id = %(season_id)s and user_id = %(user_id)s",
    "delete from window_buckets where season_id = %(season_id)s and user_id = %(user_id)s",
)


async def erase(conn: Connection, season_id: SeasonId, user_id: UserId, before: int) -> int | None:
    """Erase all that there is with an id below `before`, that of the event that asks for it; returns how many scores
    that were.

    None: nothing is erased yet, for another batch is applying one of them. Takes as long as reading and deleting all
    that the player has sent in the season.
    """
    asked: dict[str, Any] = {"season_id": season_id, "user_id": user_id, "before": before}
    row = await (await conn.execute(_EVENTS, asked)).fetchone()
    assert row is not None
    scores, moderations = row
    asked |= {"scores": scores, "moderations": moderations}
    event_ids = scores + moderations
    if await _count(conn, _PENDING, (event_ids,)) != await _count(conn, _LOCK, (event_ids,)):
        return None
    await conn.execute(_KEYS, asked)
    await conn.execute(_OUTBOX, (event_ids, before))
    await conn.execute(_LEDGER, asked)
    for statement in (*_STATE, *_UNNAMED):
        await conn.execute(statement, asked)
    again = await _count(conn, _REMAINING, asked) > 0
    await snapshots.forget(conn, season_id, user_id, again=again)
    await deliveries.forget_player(conn, season_id, user_id)
    await seasons.note_erased(conn, season_id)
    return len(scores)


async def _count(conn: Connection, query: str, parameters: tuple[list[int]] | dict[str, Any]) -> int:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return int(row[0])
