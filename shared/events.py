"""What became of single events: of scores in the ledger, and of what operators did to scores and players. Only reads.

Every statement takes its caller's connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from shared import erasing
from shared.player_entries import of_player
from shared.postgres import Connection
from shared.scores import MAX_NUMBER, Aggregation, EventId, SeasonId, UserId

Kind: TypeAlias = Literal["score", "void", "hide", "unhide", "erase"]

State: TypeAlias = Literal["pending", "done", "failed", "discarded", "voided"]
"""pending: not on the board yet. done: what it does to the board is visible. failed: the database refused it.
discarded: given up after that. voided: taken away again."""

Effect: TypeAlias = Literal["counted", "superseded", "ended", "voided", "discarded"]
"""counted: part of its player's score of all time. superseded: another one of the player's counts in its place. ended:
its epoch is over. voided, discarded: as its state."""

# Events that are done leave the outbox after a retention; those that are not stay.
_STATE: Final = """case
    when event.voided_at is not null then 'voided'
    when event.discarded_at is not null then 'discarded'
    else coalesce(outbox.status, 'done')
  end"""

# Which of several scores counts, their standing says: it was made by the rules of shared.aggregates.
_SCORE: Final = f"""event.id, 'score', event.user_id, event.epoch, event.delta,
  coalesce(ended.aggregation, season.aggregation), event.created_at, event.occurred_at, {_STATE},
  case when outbox.status in ('failed', 'discarded') then outbox.last_error end,
  case when outbox.status is distinct from 'pending' or event.voided_at is not null
    then coalesce(event.voided_at, event.discarded_at, outbox.processed_at) end,
  null::bigint,
  case
    when event.voided_at is not null or event.discarded_at is not null then {_STATE}
    when outbox.status in ('pending', 'failed') then null
    when event.epoch <> season.epoch then 'ended'
    when season.aggregation = 'sum' or standing.reached_by = event.id then 'counted'
    else 'superseded'
  end"""

# What an epoch's scores mean, its own row says where it is over: the season may have been made anew with other rules.
_OF_SCORE: Final = """
join seasons as season on season.season_id = event.season_id
left join season_epochs as ended on ended.season_id = event.season_id and ended.epoch = event.epoch
left join outbox on outbox.id = event.id
left join standings as standing on standing.season_id = event.season_id and standing.epoch = event.epoch
  and standing.user_id = event.user_id"""

# The ledger's key has the epoch before the id: the epochs that a season has scores of are walked, newest first, each by
# one look at the end of its part of the index. A limit keeps the planner from reading a whole epoch, or all of them,
# where it takes what is asked for to be many.
_EPOCHS: Final = """
with recursive asked (season_id, id) as (
  select * from unnest(string_to_array(%s, E'\\x1f'), %s::bigint[])
), epochs (season_id, epoch) as (
  select season_id, (select max(epoch) from score_events as last where last.season_id = asked.season_id)
  from (select distinct season_id from asked) as asked
  union all
  select season_id, (
    select max(epoch) from score_events as earlier
    where earlier.season_id = epochs.season_id and earlier.epoch < epochs.epoch)
  from epochs where epoch is not null
)"""

_IN_LEDGER: Final = """from asked
join epochs on epochs.season_id = asked.season_id
cross join lateral (
  select * from score_events as event
  where event.season_id = epochs.season_id and event.epoch = epochs.epoch and event.id = asked.id limit 1
) as event"""

FIND_SCORE: Final = f"""{_EPOCHS}
select {_SCORE} {_IN_LEDGER} {_OF_SCORE}
where event.id > {erasing.before("event.season_id", "event.user_id")}
"""

# Whom an operator hid or erased is for the audit to tell, which not everybody may read.
FIND_MODERATION: Final = """
select event.id, coalesce(outbox.event_type, event.action),
  case when event.action = 'void' then event.user_id end, outbox.epoch,
  null::bigint, null, event.requested_at, null::timestamptz, coalesce(outbox.status, 'done'),
  case when outbox.status in ('failed', 'discarded') then outbox.last_error end,
  case when outbox.status is distinct from 'pending' then coalesce(outbox.processed_at, event.applied_at) end,
  event.event_id, null
from moderations as event
left join outbox on outbox.id = event.id
where event.id = %s and event.season_id = %s
"""

HISTORY: Final = f"""
select {_SCORE}
from (select %s::text as season_id, %s::text as user_id) as asked cross join score_events as event {_OF_SCORE}
where {of_player("event", season_id="asked.season_id", user_id="asked.user_id")} and event.id < %s
  and event.id > {erasing.before("asked.season_id", "asked.user_id")}
order by event.id desc limit %s
"""  # noqa: S608 - constants

STATUSES: Final = "select season_id, id, status from outbox where id = any(%s::bigint[])"

LAST_ID: Final = "select case when is_called then last_value else 0 end from score_events_id_seq"

# Of those that are not in the outbox: the ones that were.
KNOWN: Final = f"""{_EPOCHS}
select asked.season_id, asked.id {_IN_LEDGER}
union all
select asked.season_id, asked.id from asked
join moderations on moderations.id = asked.id and moderations.season_id = asked.season_id
"""  # noqa: S608 - constants

_SEPARATOR: Final = "\x1f"


class Event(NamedTuple):
    """`delta`: points or a score, as `aggregation` says; both are None where it is no score. `epoch`: None where that
    is not known any more. `target`: what a void takes away. `effect`: None while that is not known, and of what is no
    score."""

    event_id: EventId
    kind: Kind
    user_id: UserId | None
    epoch: int | None
    delta: int | None
    aggregation: Aggregation | None
    created_at: dt.datetime
    occurred_at: dt.datetime | None
    state: State
    reason: str | None
    processed_at: dt.datetime | None
    target: EventId | None
    effect: Effect | None


Awaited: TypeAlias = tuple[SeasonId, EventId]


async def find(conn: Connection, season_id: SeasonId, event_id: EventId) -> Event | None:
    """The season's event of that id, None = it has none."""
    row = await (await conn.execute(FIND_SCORE, _asked([(season_id, event_id)]))).fetchone()
    if row is None:
        row = await (await conn.execute(FIND_MODERATION, (event_id, season_id))).fetchone()
    return None if row is None else Event(*row)


async def history(
    conn: Connection, season_id: SeasonId, user_id: UserId, before: EventId | None, limit: int
) -> Sequence[Event]:
    """The player's `limit` newest scores of all epochs that the ledger has, newest first; `before`: of those before
    that one."""
    before = EventId(MAX_NUMBER) if before is None else before
    asked = (season_id, user_id, before, limit)
    return [Event(*row) for row in await (await conn.execute(HISTORY, asked)).fetchall()]


async def statuses(conn: Connection, events: Collection[Awaited]) -> dict[Awaited, str]:
    """The status in the outbox of those that are there."""
    _, event_ids = _asked(events)
    found = await (await conn.execute(STATUSES, (event_ids,))).fetchall()
    return {(season_id, event_id): status for season_id, event_id, status in found}


async def last_id(conn: Connection) -> EventId:
    """No event has a higher id, 0 = there is none."""
    row = await (await conn.execute(LAST_ID)).fetchone()
    assert row is not None
    return EventId(row[0])


async def known(conn: Connection, events: Collection[Awaited]) -> set[Awaited]:
    """Which of the events there are, also where they left the outbox. Each costs a look-up per epoch of its season."""
    return set(await (await conn.execute(KNOWN, _asked(events))).fetchall())


def _asked(events: Collection[Awaited]) -> tuple[str, str]:
    """As texts: psycopg takes lists apart one element after the other."""
    return _SEPARATOR.join(event[0] for event in events), f"{{{','.join(str(event[1]) for event in events)}}}"
