"""What becomes of events that were set aside, or that must never be shown: sent back to pending, or discarded.

The order of locks is the worker's: outbox rows by id, then the season's row, then standings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from shared import erasing, standings
from shared.postgres import Connection, Pool
from shared.projection import Projection
from shared.reconciliation import amend, retried_when_late
from shared.scores import SeasonId, UserId
from shared.standings import Standing

BATCH: Final = 500

Status = Literal["pending", "done", "failed", "discarded"]

# An erasure that has begun can't be given up: what it was to erase is neither there nor gone.
_HAS_BEGUN: Final = f"""(event_type = 'erase' and exists (
  select from moderations as erasure where erasure.id = outbox.id and {erasing.BEGUN} offset 0))"""

_FIND = f"""
select id, status, season_id, user_id, delta, {_HAS_BEGUN} from outbox where id = any(%s) order by id
"""  # noqa: S608 - constants

# last_error stays, whatever comes of it: it says what went wrong the last time. In order of ids, as all who lock
# several events; who waited for a row that has another status by then does not get it.
_RETRY = """
update outbox set status = 'pending', processed_at = null
where id = any(array(select id from outbox where id = any(%s) and status = 'failed' order by id for update))
  and status = 'failed'
returning id
"""

# SKIP LOCKED below: who works on all failed events leaves to others what they are working on.
_RETRY_SOME = """
update outbox set status = 'pending', processed_at = null
where id = any(array(
  select id from outbox where status = 'failed' and id > %s and (%s::text is null or season_id = %s)
  order by id limit %s for update skip locked))
returning id
"""

_FAILED_IDS = """
select id from outbox where status = 'failed' and (%s::text is null or season_id = %s) order by id
"""

_WITH_FAILED = """
select season_id, count(*) from outbox where status = 'failed' and (%s::text is null or season_id = %s)
group by season_id order by season_id
"""

LOCK_FAILED = f"""
select id from outbox where status = 'failed' and season_id = %s and not {_HAS_BEGUN}
order by id limit %s for update skip locked
"""  # noqa: S608 - constants

# Waits for a batch that is just applying one of them; then that one is done, and not returned.
_LOCK_NAMED = """
select id from outbox where id = any(%s) and season_id = %s and status in ('failed', 'pending') order by id for update
"""

# Of events that are locked, in a statement of its own: whoever waited for a row does not see what else the one before
# wrote, such as that an erasure has begun.
_NOT_BEGUN: Final = f"select id from outbox where id = any(%s) and not {_HAS_BEGUN} order by id"  # noqa: S608 - constants

_DISCARD_EVENTS = "update outbox set status = 'discarded', processed_at = clock_timestamp() where id = any(%s)"

DISCARD_ENTRIES = """
update score_events as entry set discarded_at = clock_timestamp()
from outbox as event
where event.id = any(%s) and entry.season_id = event.season_id and entry.epoch = event.epoch and entry.id = event.id
"""


class Event(NamedTuple):
    """`has_begun`: it erases a player, and has done so in part."""

    id: int
    status: Status
    season_id: SeasonId
    user_id: UserId
    delta: int
    has_begun: bool = False


async def find(conn: Connection, event_ids: Sequence[int]) -> dict[int, Event]:
    """Those of the events that the outbox still has."""
    cursor = await conn.execute(_FIND, (list(event_ids),))
    return {row[0]: Event(*row) for row in await cursor.fetchall()}


async def failed_ids(conn: Connection, season_id: SeasonId | None) -> list[int]:
    """All failed events, of one season or of all, whoever is working on them."""
    return [row[0] for row in await (await conn.execute(_FAILED_IDS, (season_id, season_id))).fetchall()]


async def seasons_with_failed(conn: Connection, season_id: SeasonId | None) -> dict[SeasonId, int]:
    """How many failed events each season has, or that one; seasons without any are left out."""
    cursor = await conn.execute(_WITH_FAILED, (season_id, season_id))
    return dict(await cursor.fetchall())


async def retry(conn: Connection, event_ids: Sequence[int]) -> set[int]:
    """Send failed events back to pending; returns those that were failed. A worker takes them within seconds.

    `attempts` and `last_error` stay: they tell, also of an event that is done by now, that it failed before.
    """
    return {row[0] for row in await (await conn.execute(_RETRY, (list(event_ids),))).fetchall()}


async def retry_some(conn: Connection, season_id: SeasonId | None, after: int) -> list[int]:
    """The same for a batch of all failed events behind the id `after`, of one season or of all; returns their ids."""
    cursor = await conn.execute(_RETRY_SOME, (after, season_id, season_id, BATCH))
    return sorted(row[0] for row in await cursor.fetchall())


async def discard(pool: Pool, projection: Projection, season_id: SeasonId, event_ids: Sequence[int]) -> set[int]:
    """Give up events of a season, failed or pending: they count no more, whoever may have shown them.

    Returns those that were given up; the others are done by now, or discarded already, or erasures that have begun.
    Waits for a batch that is applying one of them. Raises as `shared.reconciliation.amend`; then nothing is given up.
    """
    return await _discard(pool, projection, season_id, _LOCK_NAMED, (list(event_ids), season_id))


async def discard_some(pool: Pool, projection: Projection, season_id: SeasonId) -> set[int]:
    """The same for a batch of the season's failed events; returns none when none is left."""
    return await _discard(pool, projection, season_id, LOCK_FAILED, (season_id, BATCH))


async def _discard(
    pool: Pool, projection: Projection, season_id: SeasonId, query: str, parameters: tuple[object, ...]
) -> set[int]:
    async def attempt() -> set[int]:
        async with pool.connection() as conn, conn.transaction():
            locked = [row[0] for row in await (await conn.execute(query, parameters)).fetchall()]
            event_ids = [row[0] for row in await (await conn.execute(_NOT_BEGUN, (locked,))).fetchall()]

            # A batch that never committed may have shown the events: their players' standings are sent again.
            async def change(conn: Connection) -> list[Standing]:
                await conn.execute(DISCARD_ENTRIES, (event_ids,))
                await conn.execute(_DISCARD_EVENTS, (event_ids,))
                return await standings.touch(conn, event_ids)

            if event_ids:
                await amend(conn, projection, season_id, change)
            return set(event_ids)

    return await retried_when_late(pool, projection, attempt)
