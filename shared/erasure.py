"""Erasing a player from a season: nothing in ledger, outbox or standings names that player any more.

Under the season's lock, with its new token. Not even a tombstone stays, so boards from before are built anew where they
turn out to have lost something (`shared.seasons.note_erased`). A large history is erased part by part, each in a
transaction of its own: from the first one on nothing shows the player, see `shared.erasing`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from shared import deliveries, erasing, seasons, snapshots
from shared.player_entries import of_player
from shared.postgres import Connection
from shared.scores import SeasonId, UserId

_PART: Final = 2_000
"""Scores that one transaction erases, with the season locked: some 0.05 s, a second or two where a slow disk reads
each."""

_PLAYER: Final = {"season_id": "%(season_id)s::text", "user_id": "%(user_id)s::text"}

# Scores that came later than the wish to be erased stay: whoever plays again begins anew. Read once: one with a lower
# id that is committed after the last part was read counts as later too, or its row would be deleted and its event
# folded. Materialized, it is planned as if all were wanted, by the index, and read as far as they are: with a limit the
# planner would hope to meet some of a large history soon, wherever it begins to read. A void of later, of a score of
# before, tells of nothing that is still there.
EVENTS: Final = f"""
with sent as materialized (
  select id from score_events as entry where {of_player("entry", **_PLAYER)} and id < %(before)s
)
select array(select id from sent limit %(most)s),
  array(
    select id from moderations where season_id = %(season_id)s and user_id = %(user_id)s
      and (id < %(before)s or event_id < %(before)s))
"""  # noqa: S608 - constants

_MAY_ERASE: Final = f"select {erasing.MAY_ERASE}"

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

REMAIN: Final = f"""
with sent as materialized (select from score_events as entry where {of_player("entry", **_PLAYER)})
select count(*) from (select from sent limit 1) as first
"""  # noqa: S608 - constants

_OUTBOX: Final = "delete from outbox where id = any(%s) and id <> %s"

# That it was erased stays, and not who. An earlier erasure of the same player that had begun is over with this one.
_UNNAMED: Final = (
    "update outbox set user_id = '' where id = %(before)s",
    """
    update moderations set user_id = null,
      applied_at = case when effect like 'being erased%%' then clock_timestamp() else applied_at end,
      effect = regexp_replace(effect, '^being ', '')
    where season_id = %(season_id)s and (id = any(%(moderations)s) or id = %(before)s)
    """,
)

_STATE: Final = (
    "delete from final_ranks where season_id = %(season_id)s and user_id = %(user_id)s",
    "delete from standings where season_id = %(season_id)s and user_id = %(user_id)s",
    "delete from window_buckets where season_id = %(season_id)s and user_id = %(user_id)s",
)


class Erased(NamedTuple):
    """`scores`: how many. `is_all`: none is left, and nothing names the player."""

    scores: int
    is_all: bool


async def erase(conn: Connection, season_id: SeasonId, user_id: UserId, before: int) -> Erased | None:
    """Erase what there is with an id below `before`, that of the event that asks for it: all of it, or so many scores
    of a larger history, and what is made of them.

    None: nothing is erased yet, for another batch is applying one of them, or an epoch of the season is being sealed.
    """
    allowed = await (await conn.execute(_MAY_ERASE, (season_id,))).fetchone()
    if allowed is None or not allowed[0]:
        return None
    asked: dict[str, Any] = {"season_id": season_id, "user_id": user_id, "before": before, "most": _PART + 1}
    row = await (await conn.execute(EVENTS, asked)).fetchone()
    assert row is not None
    scores, moderations = row
    is_all = len(scores) <= _PART
    asked |= {"scores": scores[:_PART], "moderations": moderations}
    event_ids = scores + moderations if is_all else scores[:_PART]
    if await _count(conn, _PENDING, (event_ids,)) != await _count(conn, _LOCK, (event_ids,)):
        return None
    await conn.execute(_KEYS, asked)
    await conn.execute(_OUTBOX, (event_ids, before))
    await conn.execute(_LEDGER, asked)
    for statement in (*_STATE, *_UNNAMED) if is_all else _STATE:
        await conn.execute(statement, asked)
    again = not is_all or await _count(conn, REMAIN, asked) > 0
    await snapshots.forget(conn, season_id, user_id, again=again)
    await deliveries.forget_player(conn, season_id, user_id)
    await seasons.note_erased(conn, season_id)
    return Erased(len(asked["scores"]), is_all)


async def _count(conn: Connection, query: str, parameters: tuple[list[int]] | dict[str, Any]) -> int:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return int(row[0])
