"""What a season is set to, and the pages of a list of seasons. Every statement takes its caller's connection.

A season's rules hold for all scores of an epoch: changing them begins the next one, and only an epoch without
scores is given up for that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from shared import epochs, reset_schedules, rewards, seasons
from shared.errors import ConflictError
from shared.postgres import Connection
from shared.rewards import Hook
from shared.schedules import Schedule
from shared.scores import Rules, SeasonId

State: TypeAlias = Literal["scheduled", "open", "closed"]
"""Scores are taken while it is open."""

_SEASON: Final = """
select season_id, epoch, aggregation, sort_order, windows, tie_break, starts_at, ends_at, closed_at, metadata,
  created_at, token, cron, every_days, starting_at, time_zone, archive, next_at, previous_at, url, top,
  case
    when closed_at is not null or ends_at <= now() then 'closed'
    when starts_at > now() then 'scheduled'
    else 'open'
  end
from seasons left join reset_schedules using (season_id) left join reward_hooks using (season_id)"""

_FIND = f"{_SEASON} where season_id = %s"

PAGE = f"{_SEASON} where season_id > %s order by season_id limit %s"

# Who creates it meanwhile, by its first score perhaps, is waited for.
_CREATE = """
insert into seasons (season_id, aggregation, sort_order, windows, tie_break, starts_at, ends_at, metadata)
values (%s, %s, %s, %s, %s, %s, %s, %s)
on conflict (season_id) do nothing
"""

_CHANGE = """
update seasons
set aggregation = %s, sort_order = %s, windows = %s, tie_break = %s, starts_at = %s, ends_at = %s, metadata = %s
where season_id = %s
"""

_HAS_SCORES = """
select exists (
  select from score_events as event
  join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
  where event.season_id = %s)
"""

_CLOSE = "update seasons set closed_at = coalesce(closed_at, now()) where season_id = %s"

_IS_TO_COME = "select coalesce(%s::timestamptz > clock_timestamp(), true)"


class Settings(NamedTuple):
    """`metadata`: a JSON object as text. `resets`: when it is reset by itself. `rewards`: who is told of its end."""

    rules: Rules
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    metadata: str | None
    resets: Schedule | None = None
    rewards: Hook | None = None


class Season(NamedTuple):
    """A season's row as of now. `token`: see `shared.seasons`. `next_reset`, `previous_reset`: by its schedule."""

    season_id: SeasonId
    epoch: int
    settings: Settings
    closed_at: dt.datetime | None
    created_at: dt.datetime
    token: int
    state: State
    next_reset: dt.datetime | None = None
    previous_reset: dt.datetime | None = None


async def find(conn: Connection, season_id: SeasonId) -> Season | None:
    """The season; None where there is no such."""
    row = await (await conn.execute(_FIND, (season_id,))).fetchone()
    return None if row is None else _season(row)


async def page(conn: Connection, after: str, limit: int) -> list[Season]:
    """Seasons in the order of their ids behind `after` ('' = from the first)."""
    return [_season(row) for row in await (await conn.execute(PAGE, (after, limit))).fetchall()]


async def put(conn: Connection, season_id: SeasonId, settings: Settings) -> Literal["created", "changed", "restarted"]:
    """Create the season or change it, in the caller's transaction; "restarted": in its next epoch, which the board must
    be made to follow (`shared.reconciliation.reconcile`).

    Raises ConflictError where there are scores that other settings were meant for, or where it would go on after its
    final ranks were told.
    """
    columns = (*settings.rules.chosen, settings.starts_at, settings.ends_at, settings.metadata)
    created = await conn.execute(_CREATE, (season_id, *columns))
    if created.rowcount:
        await _put_what_follows(conn, season_id, settings)
        return "created"
    (fence,) = await seasons.lock(conn, [season_id])
    restart = fence.rules.chosen != settings.rules.chosen
    if restart:
        row = await (await conn.execute(_HAS_SCORES, (season_id,))).fetchone()
        if row is not None and row[0]:
            raise ConflictError(
                f"season {season_id} has scores: {_told(fence.rules)} stay what they are; send them as they are, take "
                "another season, or reset this one with DELETE first",
                code="season_has_scores",
            )
        # A score that is on its way was meant otherwise: it counts as if it had come before a reset. Whoever sets other
        # rules wants scores by them: it is open, also where it had been closed.
        await seasons.begin_next_epoch(conn, season_id, "restart")
    elif await _is_to_come(conn, settings.ends_at):
        await epochs.reopen(conn, season_id)
    await conn.execute(_CHANGE, (*columns, season_id))
    await _put_what_follows(conn, season_id, settings)
    return "restarted" if restart else "changed"


async def close(conn: Connection, season_id: SeasonId) -> bool:
    """Let the season take no more scores until its next epoch; returns whether there is such a season."""
    async with conn.transaction():
        if not await seasons.lock(conn, [season_id]):
            return False
        await conn.execute(_CLOSE, (season_id,))
        await epochs.end(conn, season_id, "close")
    return True


async def _is_to_come(conn: Connection, ends_at: dt.datetime | None) -> bool:
    """Whether a season that ends then, None = never, has not ended."""
    row = await (await conn.execute(_IS_TO_COME, (ends_at,))).fetchone()
    assert row is not None
    return bool(row[0])


async def _put_what_follows(conn: Connection, season_id: SeasonId, settings: Settings) -> None:
    """Of the locked season: what happens by itself, and when."""
    resets = settings.resets
    await reset_schedules.put(conn, season_id, resets, settings.starts_at, settings.ends_at)
    await rewards.put(conn, season_id, settings.rewards)
    end_matters = settings.rewards is not None or (resets is not None and resets.archive)
    await rewards.put_end(conn, season_id, settings.ends_at if end_matters else None)


def _told(rules: Rules) -> str:
    return (
        f"aggregation {rules.aggregation}, order {rules.order}, windows {str(rules.windows).lower()} and tieBreak "
        f"{rules.tie_break}"
    )


def _season(row: Sequence[Any]) -> Season:
    season_id, epoch, aggregation, order, windows, tie_break, starts_at, ends_at, *others = row
    closed_at, metadata, created_at, token, *by_itself = others
    cron, every_days, starting_at, time_zone, archive, next_at, previous_at, url, top, state = by_itself
    settings = Settings(
        Rules(aggregation, order, windows, tie_break),
        starts_at,
        ends_at,
        metadata,
        reset_schedules.schedule_of(cron, every_days, starting_at, time_zone, archive),
        None if url is None else Hook(url, top),
    )
    return Season(season_id, epoch, settings, closed_at, created_at, token, state, next_at, previous_at)
