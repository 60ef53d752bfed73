"""The outbox: events that are committed but not yet visible in Redis.

pending → done (visible) or failed (the database refused it). Every statement takes its caller's connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId

# `id >= floor` skips the dead index entries that finished events leave at the front of the partial index; under a
# snapshot held open for long they can't be removed and claims grow from 3 to 60 ms. Never `id > last seen`:
# transactions commit out of order.
CLAIM = """
select id, season_id from outbox
where status = 'pending' and id >= %s and season_id <> all(%s)
order by id limit %s for update skip locked
"""

_MARK_DONE = "update outbox set status = 'done', processed_at = clock_timestamp() where id = any(%s)"

_MARK_FAILED = """
update outbox
set status = 'failed', attempts = attempts + 1, last_error = failure.reason, processed_at = clock_timestamp()
from unnest(%s::bigint[], %s::text[]) as failure (id, reason)
where outbox.id = failure.id
"""

LOWEST_PENDING = """
select coalesce(
  (select min(id) from outbox where status = 'pending'),
  (select max(id) + 1 from outbox),
  0)
"""

# Oldest first along the primary key: in a table that is purged steadily the first rows are the expired ones.
_PURGE = """
delete from outbox where id = any(array(
  select id from outbox
  where status = 'done' and id < %s and processed_at < now() - %s * interval '1 hour'
  order by id limit %s))
"""


class Claimed(NamedTuple):
    id: int
    season_id: SeasonId


async def claim(conn: Connection, *, floor: int, paused: Sequence[SeasonId], limit: int) -> list[Claimed]:
    """Lock up to `limit` pending events, oldest first, that no other worker holds, until the transaction ends."""
    cursor = await conn.execute(CLAIM, (floor, list(paused), limit))
    return [Claimed(*row) for row in await cursor.fetchall()]


async def mark_done(conn: Connection, event_ids: Sequence[int]) -> None:
    await conn.execute(_MARK_DONE, (list(event_ids),))


async def mark_failed(conn: Connection, reasons: dict[int, str]) -> None:
    """Set events aside, each with the database's reason."""
    await conn.execute(_MARK_FAILED, (list(reasons), list(reasons.values())))


async def lowest_pending(conn: Connection) -> int:
    """The smallest pending id; with none pending, one beyond the largest id there is."""
    row = await (await conn.execute(LOWEST_PENDING)).fetchone()
    assert row is not None
    return int(row[0])


async def purge(conn: Connection, *, below: int, retention_hours: float, limit: int) -> int:
    """Delete at most `limit` done events older than the retention; returns how many."""
    return (await conn.execute(_PURGE, (below, retention_hours, limit))).rowcount
