"""How full the outbox is and how fast it turns over, cheap enough to be asked every second or two.

Never a walk of the whole table: what is counted is counted up to a bound, what is told per second is told from the
newest rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.postgres import Connection
from shared.scores import SeasonId

MOST_COUNTED: Final = 100_000
"""Pending and failed events are counted one by one up to so many, some 30 ms."""

RATE_SECONDS: Final = 5.0
SAMPLE: Final = 5000
_REACH: Final = 1000
"""Batches mark a little beyond the oldest event that waits."""

_EXAMINED: Final = 10_000
_SEASONS: Final = 100
_REASONS: Final = 10

COUNT_PENDING = "select count(*) from (select from outbox where status = 'pending' order by id limit %s) as counted"
COUNT_FAILED = "select count(*) from (select from outbox where status = 'failed' order by id limit %s) as counted"

FRONT = """
select id, greatest(extract(epoch from clock_timestamp() - created_at), 0)::float from outbox
where status = 'pending' order by id limit 1
"""

LAST = "select max(id) from outbox"

# Each line: how many events within the last seconds, how long ago the oldest of them was, and whether there may be more
# of them than were looked at. What is done is looked for at both ends: among the newest, and, where much waits, around
# the oldest that waits.
RATES = """
with since as (
  select clock_timestamp() as now, clock_timestamp() - %s * interval '1 second' as first
), newest as materialized (
  select status, created_at, processed_at from outbox order by id desc limit %s
), around as materialized (
  select status, processed_at from outbox where id < %s order by id desc limit %s
)
select count(*), extract(epoch from max(now) - min(created_at))::float,
  (select count(*) = %s and min(created_at) > max(first) from newest, since)
from newest, since where created_at > first
union all
select count(*), extract(epoch from max(now) - min(processed_at))::float,
  (select count(*) = %s and min(created_at) > max(first) from newest, since)
from newest, since where status = 'done' and processed_at > first
union all
select count(*), extract(epoch from max(now) - min(processed_at))::float,
  (select count(*) = %s and min(processed_at) > max(first) from around, since)
from around, since where status = 'done' and processed_at > first
"""

# Of the newest: nobody reads ten thousand reasons.
FAILED_BY_SEASON = """
select season_id, count(*) from (
  select season_id from outbox where status = 'failed' order by id desc limit %s) as newest
group by season_id order by 2 desc, 1 limit %s
"""

FAILED_BY_REASON = """
select split_part(coalesce(last_error, 'no reason noted'), E'\\n', 1), count(*) from (
  select last_error from outbox where status = 'failed' order by id desc limit %s) as newest
group by 1 order by 2 desc, 1 limit %s
"""


class Gauge(NamedTuple):
    """`exact`: whether all pending events were counted; else `pending` is the most that there can be, by their ids.
    `failed` is at most MOST_COUNTED. `oldest_seconds`: since the oldest pending event was written, None = none is.
    Rates are per second, over the last RATE_SECONDS or what the newest SAMPLE events span."""

    pending: int
    exact: bool
    oldest_seconds: float | None
    failed: int
    accepted_per_second: float
    done_per_second: float
    failed_by_season: dict[SeasonId, int]
    failed_by_reason: dict[str, int]


async def read(conn: Connection) -> Gauge:
    """The gauge as of now."""
    pending = await _number(conn, COUNT_PENDING, MOST_COUNTED + 1)
    front = await (await conn.execute(FRONT)).fetchone()
    last = await _number(conn, LAST)
    front_id, oldest_seconds = front or (last + 1, None)
    exact = pending <= MOST_COUNTED
    failed = await _number(conn, COUNT_FAILED, MOST_COUNTED)
    sampled = (RATE_SECONDS, SAMPLE, front_id + _REACH, *[SAMPLE] * 4)
    accepted, newest, around = [per_second(*row) for row in await (await conn.execute(RATES, sampled)).fetchall()]
    by_season = await (await conn.execute(FAILED_BY_SEASON, (_EXAMINED, _SEASONS))).fetchall() if failed else []
    by_reason = await (await conn.execute(FAILED_BY_REASON, (_EXAMINED, _REASONS))).fetchall() if failed else []
    return Gauge(
        pending if exact else last - front_id + 1,
        exact,
        oldest_seconds,
        failed,
        accepted,
        max(newest, around),
        dict(by_season),
        dict(by_reason),
    )


def per_second(found: int, oldest_seconds: float | None, more: bool | None) -> float:
    """The rate that `found` events tell, the oldest of them so long ago: of their own span where there are `more`, else
    of all RATE_SECONDS."""
    if oldest_seconds is None:
        return 0.0
    return found / (max(oldest_seconds, 0.001) if more else RATE_SECONDS)


async def _number(conn: Connection, query: str, *parameters: int) -> int:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return int(row[0] or 0)
