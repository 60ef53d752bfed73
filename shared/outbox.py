"""The outbox: events that are committed but not yet visible in Redis.

pending → done (visible) or failed (the database refused it); an operator sends failed ones back to pending, or
discards them (shared/setbacks.py). Every statement takes its caller's connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId, UserId

# `id >= floor` skips the dead index entries that finished events leave at the front of the partial index; under a
# snapshot held open for long they can't be removed and claims grow from 3 to 60 ms. Never `id > last seen`:
# transactions commit out of order.
NEXT = """
select id from outbox
where status = 'pending' and id >= %s and season_id <> all(%s)
order by id limit %s for update skip locked
"""

# Marked done at once, which nobody sees before the commit: marked after the fold, they would lengthen the time for
# which the seasons are locked. One row comes back: 500 would cost the client as much time as the server.
_TAKE = """
claimed as (
  update outbox set status = 'done', processed_at = clock_timestamp()
  where id = any(array({next}))
  returning id, season_id, created_at, event_type
)
select array(select id from claimed), array(select distinct season_id from claimed),
  (select extract(epoch from clock_timestamp() - min(created_at))::float from claimed),
  array(select id from claimed where event_type <> 'score')"""

_IN_SHARE = """and hashtext(season_id) & 7 = (select n from share) and id < (
  select id from outbox where status = 'pending' and id >= %s and season_id <> all(%s) order by id limit 1) + %s
order by"""

# Seasons are divided into eight shares by a hash of their ids. A share that has less than a sixteenth is not worth a
# claim of its own, which would read too much that is not its own.
CLAIM = f"""
with {_TAKE.format(next=NEXT)},
  array(select hashtext(season_id) & 7 from claimed group by 1 having count(*) * 16 >= %s)
"""  # noqa: S608 - constants

# Of the first of some shares that no other batch has taken, until the transaction ends; where all are, of the first.
# The number before the share is any that no other program on the database locks. Not far ahead of the oldest event that
# waits: a share of which nothing is left would be looked for in the whole backlog.
CLAIM_SHARE = f"""
with share as materialized (
  select coalesce(
    (select n from unnest(%s::int[]) as n where pg_try_advisory_xact_lock(1819239025, n) limit 1),
    (%s::int[])[1]) as n
), {_TAKE.format(next=NEXT.replace("order by", _IN_SHARE))},
  array(select n from share)
"""  # noqa: S608 - constants

_PUT_BACK = "update outbox set status = 'pending', processed_at = null where id = any(%s)"

_MARK_FAILED = """
update outbox
set status = 'failed', attempts = attempts + 1, last_error = failure.reason, processed_at = clock_timestamp()
from unnest(%s::bigint[], %s::text[]) as failure (id, reason)
where outbox.id = failure.id
"""

# Bounded: in a backlog of traced events, what is told of each would take longer than the batch.
TRACEPARENTS = """
select id, traceparent from outbox where id = any(%s) and traceparent is not null order by id limit %s
"""

PENDING_PLAYERS = """
select distinct user_id from outbox
where status = 'pending' and season_id = %s and user_id = any(%s)
"""

LOWEST_PENDING = """
select coalesce(
  (select min(id) from outbox where status = 'pending'),
  (select max(id) + 1 from outbox),
  0)
"""

# A bounded walk along the primary key, which is nearly the order in which events were done: with an index on
# processed_at every event would pay for its own deletion, without a bound this reads all that has not expired yet.
PURGE = """
with walked as (
  select id,
    status in ('done', 'discarded') and processed_at < now() - %s * interval '1 hour' as expired,
    status in ('pending', 'failed') as stays
  from outbox where id > %s order by id limit %s
), deleted as (
  delete from outbox where id = any(array(select id from walked where expired)) returning id
)
select count(*), max(id), coalesce(bool_and(expired or stays), false), (select count(*) from deleted) from walked
"""

_REACH: Final = 32
"""Full claims that lie within the reach of one of a share, counted in events of all shares."""


class Purged(NamedTuple):
    """`next_after`: where to go on; None = nothing behind is old enough."""

    deleted: int
    next_after: int | None


class Claimed(NamedTuple):
    """Events of a batch, and the seasons that they belong to, each once. `waited`: seconds since the oldest of them was
    written, None where there are none. `moderating`: those that are no scores (`shared.moderation`).
    `shares`: the share that was taken, else those that have much of what waits."""

    event_ids: list[int]
    season_ids: list[SeasonId]
    waited: float | None
    moderating: list[int]
    shares: list[int]


async def claim(
    conn: Connection, *, floor: int, paused: Sequence[SeasonId], limit: int, shares: Sequence[int] = ()
) -> Claimed:
    """Take up to `limit` pending events, oldest first, that no other worker holds: locked, and done once the caller
    commits. Where `shares` of the seasons are named only of the first one that no other batch has taken."""
    named, paused = list(shares), list(paused)
    if named:
        far = limit * _REACH
        cursor = await conn.execute(CLAIM_SHARE, (named, named, floor, paused, floor, paused, far, limit))
    else:
        cursor = await conn.execute(CLAIM, (floor, paused, limit, limit))
    row = await cursor.fetchone()
    assert row is not None
    return Claimed(*row)


async def traceparents(conn: Connection, event_ids: Sequence[int], limit: int) -> dict[int, str]:
    """Under which spans events came, by their ids; of at most `limit` of those that are traced."""
    return dict(await (await conn.execute(TRACEPARENTS, (list(event_ids), limit))).fetchall())


async def put_back(conn: Connection, event_ids: Sequence[int]) -> None:
    """Events that were claimed can't be applied yet."""
    await conn.execute(_PUT_BACK, (list(event_ids),))


async def mark_failed(conn: Connection, reasons: dict[int, str]) -> None:
    """Set events aside, each with the database's reason."""
    await conn.execute(_MARK_FAILED, (list(reasons), list(reasons.values())))


async def pending_players(conn: Connection, season_id: SeasonId, user_ids: Sequence[UserId]) -> set[UserId]:
    """Which of the players have an event pending."""
    cursor = await conn.execute(PENDING_PLAYERS, (season_id, list(user_ids)))
    return {row[0] for row in await cursor.fetchall()}


async def lowest_pending(conn: Connection) -> int:
    """The smallest pending id; with none pending, one beyond the largest id there is."""
    row = await (await conn.execute(LOWEST_PENDING)).fetchone()
    assert row is not None
    return int(row[0])


async def purge(conn: Connection, *, after: int, retention_hours: float, limit: int) -> Purged:
    """Look at `limit` events behind the id `after` and delete those that are done or discarded and past the
    retention."""
    row = await (await conn.execute(PURGE, (retention_hours, after, limit))).fetchone()
    assert row is not None
    walked, last, only_expired, deleted = row
    # Past events that stay, failed or pending; up to the first done one that has not expired.
    return Purged(deleted, last if walked == limit and only_expired else None)
