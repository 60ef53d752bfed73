"""What an operator wants to know of the outbox: how much of what is there, for how long, and why."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId, UserId

_REASONS: Final = 10

_COUNTS = "select status, events, estimated from outbox_status"

WAITING = """
select count(distinct season_id), extract(epoch from clock_timestamp() - min(created_at))::float
from outbox where status = 'pending'
"""

# The first line: what follows names the row.
REASONS = """
select split_part(coalesce(last_error, 'no reason noted'), E'\\n', 1), count(*) from outbox where status = 'failed'
group by 1 order by 2 desc, 1 limit %s
"""

# Counted in the same statement, so that total and list are of one moment.
FAILED = """
select id, season_id, user_id, delta, attempts,
  split_part(coalesce(last_error, 'no reason noted'), E'\\n', 1), created_at, count(*) over ()
from outbox where status = 'failed' and (%s::text is null or season_id = %s)
order by id desc limit %s
"""

FAILED_BEFORE = """
select id, season_id, user_id, delta, attempts,
  split_part(coalesce(last_error, 'no reason noted'), E'\\n', 1), created_at
from outbox where status = 'failed' and id < %s and (%s::text is null or season_id = %s)
order by id desc limit %s
"""


class Review(NamedTuple):
    """`oldest_seconds`: since the oldest pending event was written; None where none is pending. `estimated`: the
    statuses whose counts are what PostgreSQL's statistics say, for counting them would read a large outbox."""

    counts: dict[str, int]
    estimated: frozenset[str]
    seasons_waiting: int
    oldest_seconds: float | None
    reasons: dict[str, int]


class Failed(NamedTuple):
    id: int
    season_id: SeasonId
    user_id: UserId
    delta: int
    attempts: int
    reason: str
    created_at: dt.datetime


class FailedEvents(NamedTuple):
    """`total`: of all that were asked for; `events`: the newest of them, at most the limit."""

    total: int
    events: list[Failed]


async def review(conn: Connection) -> Review:
    """How many events there are of each status, and what is behind the numbers; the ten most frequent reasons."""
    found = await (await conn.execute(_COUNTS)).fetchall()
    counts = {status: events for status, events, _ in found}
    estimated = frozenset(status for status, _, is_estimated in found if is_estimated)
    row = await (await conn.execute(WAITING)).fetchone()
    assert row is not None
    seasons_waiting, oldest_seconds = row
    reasons: dict[str, int] = dict(await (await conn.execute(REASONS, (_REASONS,))).fetchall())
    return Review(counts, estimated, seasons_waiting, oldest_seconds, reasons)


async def failed(conn: Connection, season_id: SeasonId | None, limit: int) -> FailedEvents:
    """The newest failed events, of one season or of all, and how many there are."""
    rows = await (await conn.execute(FAILED, (season_id, season_id, limit))).fetchall()
    return FailedEvents(rows[0][-1] if rows else 0, [Failed(*row[:-1]) for row in rows])


async def failed_before(conn: Connection, event_id: int, season_id: SeasonId | None, limit: int) -> list[Failed]:
    """The newest failed events with ids below `event_id`, of one season or of all."""
    cursor = await conn.execute(FAILED_BEFORE, (event_id, season_id, season_id, limit))
    return [Failed(*row) for row in await cursor.fetchall()]
