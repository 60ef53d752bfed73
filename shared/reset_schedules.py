"""The schedules of seasons as rows. Every statement takes its caller's connection.

Locks: the season's row first, then that of its schedule, as PUT does; so nobody who fires a schedule can stand in the
way of somebody who changes it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from shared.postgres import Connection
from shared.schedules import Cron, Days, Schedule, next_after
from shared.scores import SeasonId

_FIND: Final = """
select cron, every_days, starting_at, time_zone, archive, next_at, previous_at, clock_timestamp()
from reset_schedules where season_id = %s
"""

_NOW: Final = "select clock_timestamp()"

_PUT: Final = """
insert into reset_schedules (season_id, cron, every_days, starting_at, time_zone, archive, next_at)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (season_id) do update set cron = excluded.cron, every_days = excluded.every_days,
  starting_at = excluded.starting_at, time_zone = excluded.time_zone, archive = excluded.archive,
  next_at = excluded.next_at
"""

_DELETE: Final = "delete from reset_schedules where season_id = %s"

# now(), which is the statement's beginning outside a transaction: an index can be asked for it.
DUE: Final = """
select season_id from reset_schedules where next_at <= now() and season_id <> all(%s) order by next_at limit %s
"""

_PAUSE: Final = (
    "select extract(epoch from min(next_at) - clock_timestamp())::float from reset_schedules where next_at > now()"
)

_CLAIM: Final = """
select cron, every_days, starting_at, time_zone, archive, next_at, starts_at, ends_at, clock_timestamp()
from reset_schedules join seasons using (season_id)
where season_id = %s and next_at <= clock_timestamp()
"""

_FIRED: Final = "update reset_schedules set next_at = %s, previous_at = coalesce(%s, previous_at) where season_id = %s"


class Due(NamedTuple):
    """A schedule whose moment `at` has come. `over`: the season has ended meanwhile. `next_at`: see the schema."""

    schedule: Schedule
    at: dt.datetime
    over: bool
    next_at: dt.datetime | None


def schedule_of(
    cron: str | None,
    every_days: int | None,
    starting_at: dt.datetime | None,
    time_zone: str | None,
    archive: bool | None,
) -> Schedule | None:
    """What the columns say; None for a season without a schedule."""
    if time_zone is None or archive is None:
        return None
    if cron is not None:
        return Schedule(Cron(cron), time_zone, archive)
    assert every_days is not None
    assert starting_at is not None
    return Schedule(Days(every_days, starting_at.astimezone(dt.UTC)), time_zone, archive)


async def put(
    conn: Connection,
    season_id: SeasonId,
    schedule: Schedule | None,
    starts_at: dt.datetime | None,
    ends_at: dt.datetime | None,
) -> None:
    """Set the locked season's schedule, None: it has none. Its next moment stays what it is, also one that is due,
    unless its times or the season's say otherwise."""
    if schedule is None:
        await conn.execute(_DELETE, (season_id,))
        return
    row = await (await conn.execute(_FIND, (season_id,))).fetchone()
    if row is None:
        (now,) = await _one(conn, _NOW)
        before = next_at = previous_at = None
    else:
        before, (next_at, previous_at, now) = schedule_of(*row[:5]), row[5:]
    unchanged = before is not None and (before.timing, before.time_zone) == (schedule.timing, schedule.time_zone)
    if not unchanged or next_at is None or (starts_at is not None and next_at <= starts_at):
        next_at = _following(schedule, now, previous_at, starts_at)
    await conn.execute(_PUT, (season_id, *_columns(schedule), _before_the_end(next_at, ends_at)))


async def due(conn: Connection, left_alone: Collection[SeasonId], limit: int) -> list[SeasonId]:
    """Seasons whose moment has come, the longest ago first, but for those `left_alone`."""
    return [row[0] for row in await (await conn.execute(DUE, (list(left_alone), limit))).fetchall()]


async def seconds_until_due(conn: Connection) -> float | None:
    """Until the earliest moment that is still to come; None where there is none."""
    (seconds,) = await _one(conn, _PAUSE)
    return None if seconds is None else float(seconds)


async def claim(conn: Connection, season_id: SeasonId) -> Due | None:
    """What is due in the locked season; None where somebody else has seen to it."""
    row = await (await conn.execute(_CLAIM, (season_id,))).fetchone()
    if row is None:
        return None
    schedule, (at, starts_at, ends_at, now) = schedule_of(*row[:5]), row[5:]
    assert schedule is not None
    over = ends_at is not None and ends_at <= now
    following = None if over else _following(schedule, now, at, starts_at)
    return Due(schedule, at, over, _before_the_end(following, ends_at))


async def note_fired(conn: Connection, season_id: SeasonId, found: Due) -> None:
    """What was claimed is done, or, where the season is over, need not be."""
    await conn.execute(_FIRED, (found.next_at, None if found.over else found.at, season_id))


def _following(
    schedule: Schedule, now: dt.datetime, before: dt.datetime | None, starts_at: dt.datetime | None
) -> dt.datetime:
    """The next moment: after now, after the one before, should the clock have been set back, and not before the season
    has begun."""
    after = max(moment for moment in (now, before, starts_at) if moment is not None)
    return next_after(schedule.timing, schedule.time_zone, after)


def _before_the_end(moment: dt.datetime | None, ends_at: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None or (ends_at is not None and moment >= ends_at) else moment


def _columns(schedule: Schedule) -> tuple[object, ...]:
    match schedule.timing:
        case Cron(expression):
            return (expression, None, None, schedule.time_zone, schedule.archive)
        case Days(every, starting_at):
            return (None, every, starting_at, schedule.time_zone, schedule.archive)


async def _one(conn: Connection, query: str) -> tuple[Any, ...]:
    row = await (await conn.execute(query)).fetchone()
    assert row is not None
    return row
