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

# Each line: rows within the last seconds, and how long ago the oldest of them was. What is done is looked for at both
# ends: among the newest, and, where much waits, around the oldest that waits.
RATES = """
with newest as materialized (
  select status, created_at, processed_at from outbox order by id desc limit %s
), around as materialized (
  select status, processed_at from outbox where id < %s order by id desc limit %s
)
select count(*), extract(epoch from clock_timestamp() - min(created_at))::float, (select count(*) from newest)
from newest where created_at > clock_timestamp() - %s * interval '1 second'
union all
select count(*), extract(epoch from clock_timestamp() - min(processed_at))::float, (select count(*) from newest)
from newest where status = 'done' and processed_at > clock_timestamp() - %s * interval '1 second'
union all
select count(*), extract(epoch from clock_timestamp() - min(processed_at))::float, (select count(*) from around)
from around where status = 'done' and processed_at > clock_timestamp() - %s * interval '1 second'
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
    sampled = (SAMPLE, front_id + _REACH, SAMPLE, *[RATE_SECONDS] * 3)
    accepted, newest, around = [
        per_second(*row, sample=SAMPLE) for row in await (await conn.execute(RATES, sampled)).fetchall()
    ]
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


def per_second(found: int, oldest_seconds: float | None, looked_at: int, *, sample: int) -> float:
    """The rate that `found` of `looked_at` events tell, the oldest of them so long ago. Where there were more to look
    at than the sample holds, only their own span is known."""
    if oldest_seconds is None:
        return 0.0
    return found / (RATE_SECONDS if looked_at < sample else min(RATE_SECONDS, max(oldest_seconds, 0.001)))


async def _number(conn: Connection, query: str, *parameters: int) -> int:
    row = await (await conn.execute(query, parameters)).fetchone()
    assert row is not None
    return int(row[0] or 0)
