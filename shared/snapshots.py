"""Snapshots: a season's standings as of a moment, each made of the one before and of what came since.

From them boards of the past are made (`shared.past_boards`). One is there as a whole or not at all. Its connection is
its own: making one takes longer than any other statement may, and it must not look like one that adds to the ledger.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg

from shared.past import LONG_AGO, Then, from_snapshot
from shared.past_changes import changes, order_of
from shared.postgres import Connection
from shared.scores import Rules, SeasonId, UserId
from shared.settling import settle

_WITH_LAST: Final = """
select season.season_id, season.epoch, coalesce(taken.as_of, timestamptz 'epoch'), coalesce(taken.low_id, 0),
  coalesce(taken.players, 0)
from seasons as season left join lateral (
  select as_of, low_id, players from snapshots
  where season_id = season.season_id and epoch = season.epoch order by as_of desc limit 1
) as taken on true
where"""

# Seasons that had a batch since, with their last snapshot. A walk of the primary key, a page at a time.
ACTIVE: Final = f"{_WITH_LAST} season.season_id > %s and season.token > %s order by season.season_id limit %s"

_OF_SEASON: Final = f"{_WITH_LAST} season.season_id = %s"

COUNT: Final = """
select count(*), max(id) from (
  select id from score_events
  where season_id = %s and epoch = %s and id > %s and created_at > %s order by id limit %s
) as later
"""

_LAST_ID: Final = "(select case when is_called then last_value else last_value - 1 end from score_events_id_seq)"

# When a score came, or the last one before it that is still there. Of all later ones the lowest id, less one, and of
# those until then the highest: ids and times of concurrent commits are not in the same order.
_BEGIN: Final = f"""
select moment, coalesce((
    select id from score_events as event
    where event.season_id = %(season_id)s and event.epoch = %(epoch)s and event.id > %(after)s
      and event.created_at > moment order by id limit 1
  ), {_LAST_ID} + 1) - 1, (
    select id from score_events as event
    where event.season_id = %(season_id)s and event.epoch = %(epoch)s and event.id > %(after)s
      and event.created_at <= moment order by id desc limit 1)
from (
  select created_at as moment from score_events
  where season_id = %(season_id)s and epoch = %(epoch)s and id > %(after)s and id <= %(last_id)s
    and created_at > %(since)s
  order by id desc limit 1
) as last
"""  # noqa: S608 - constants

_LOCK: Final = "select pg_try_advisory_lock(hashtext('snapshots'), hashtext(%s))"

_UNLOCK: Final = "select pg_advisory_unlock(hashtext('snapshots'), hashtext(%s))"

_SEASON: Final = """
select patch_floor, epoch, aggregation, sort_order, windows, tie_break from seasons where season_id = %s
"""

# In the order of ids, by which players are looked up: those who came since, all in one go.
_MAKE: Final = """
, made as (
  insert into snapshots (season_id, epoch, as_of, low_id, high_id, players, failed, unsettled)
  select season.season_id, season.epoch, %(moment)s, %(new_low_id)s, %(high_id)s,
    %(players)s::bigint - (select count(*) from known) + (select count(*) from changed),
    array(select id from failed),
    array(
      select user_id from voids where user_id is not null
      union select user_id from outbox
      where status = 'failed' and event_type = 'void' and season_id = %(season_id)s and epoch = %(epoch)s
      union select user_id from changed where is_cut)
  from seasons as season where season.season_id = %(season_id)s and season.epoch = %(epoch)s
  returning snapshot_id
)
insert into snapshot_standings (snapshot_id, user_id, score, tie_at, tie_by, reached_by, place)
select made.snapshot_id, user_id, score, tie_at, tie_by, reached_by, row_number() over (order by {best_first})
from made cross join (
  select user_id, score, tie_at, tie_by, reached_by from snapshot_standings
  where snapshot_id = %(snapshot_id)s and user_id not in (select user_id from excluded)
  union all
  select user_id, score, tie_at, tie_by, reached_by from changed
) as merged
order by user_id
"""

# Who erases a player holds the season's lock and leaves it another floor: either that is done, or it waits for our
# commit, and finds what we wrote.
_STANDS: Final = "select patch_floor = %s and epoch = %s from seasons where season_id = %s for share"

_FORGET: Final = """
with gone as (
  delete from snapshot_standings
  where snapshot_id = any(array(select snapshot_id from snapshots where season_id = %(season_id)s))
    and user_id = %(user_id)s
  returning snapshot_id, place
)
update snapshots set players = players - 1, erased = erased || gone.place
from gone where gone.snapshot_id = snapshots.snapshot_id
"""

# Whoever has played again is counted anew from what remains. Each row is written once, however many parts there are.
_UNSETTLE: Final = """
update snapshots
set unsettled = case when %(again)s then array_append(unsettled, %(user_id)s)
  else array_remove(unsettled, %(user_id)s) end
where season_id = %(season_id)s and %(again)s <> (%(user_id)s = any(unsettled))
"""

_ENDED: Final = """
  select snapshot_id from snapshots as snapshot join seasons as season using (season_id)
  where snapshot.epoch < season.epoch and not exists (
    select from season_epochs as ended
    where ended.season_id = snapshot.season_id and ended.epoch = snapshot.epoch and ended.archived)
"""

PURGE: Final = f"""
delete from snapshot_standings where ctid = any(array(
  select old.ctid from ({_ENDED}) as ended, lateral (
    select ctid from snapshot_standings where snapshot_id = ended.snapshot_id limit %s) as old
  limit %s))
"""  # noqa: S608 - constants

_PURGE_HEADS: Final = f"""
delete from snapshots where snapshot_id = any(array(
  select snapshot_id from ({_ENDED}) as ended
  where not exists (select from snapshot_standings as entry where entry.snapshot_id = ended.snapshot_id)))
"""  # noqa: S608 - constants


Reach: TypeAlias = Callable[[str], None]
"""Is told of each step; in tests the process ends there."""


def _nothing(_step: str) -> None:
    pass


class Active(NamedTuple):
    """A season that had scores. Of its last snapshot: its moment, which ids came later, and of how many players it
    is."""

    season_id: SeasonId
    epoch: int
    as_of: dt.datetime
    low_id: int
    players: int


async def active(conn: Connection, after: str, since_token: int, limit: int) -> list[Active]:
    """Seasons in the order of their ids behind `after` ('' = from the first) that had a batch since that token."""
    return [Active(*row) for row in await (await conn.execute(ACTIVE, (after, since_token, limit))).fetchall()]


async def of_season(conn: Connection, season_id: SeasonId) -> Active:
    """The season as it is now."""
    row = await (await conn.execute(_OF_SEASON, (season_id,))).fetchone()
    assert row is not None  # seasons are never deleted
    return Active(*row)


async def count(conn: Connection, season: Active, after: int, limit: int) -> tuple[int, int]:
    """How many scores that came since its last snapshot have ids above `after`, `limit` at most, and the highest id of
    them."""
    asked = (season.season_id, season.epoch, after, season.as_of, limit)
    row = await (await conn.execute(COUNT, asked)).fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or after)


async def make(conn: Connection, season: Active, last_id: int, reach: Reach = _nothing) -> int | None:
    """Keep the season's standings as of when the score of that id came, which may be long ago, in so far as nobody else
    does; returns of how many players.

    None: another worker is at it, or was since `season` was read; or there are no such scores any more, or a player was
    just being erased. `conn` is in autocommit. Holds the season's lock for the length of its commit.
    """
    season_id = season.season_id
    if not await _one(conn, _LOCK, (season_id,)):
        return None
    try:
        return await _make(conn, season, last_id, reach)
    finally:
        if not conn.broken:
            await conn.execute(_UNLOCK, (season_id,))


async def _make(conn: Connection, season: Active, last_id: int, reach: Reach) -> int | None:
    # Whatever is committed later has a higher id than all that is there then.
    await settle(conn, await _one(conn, "select clock_timestamp()"))
    asked = {
        "season_id": season.season_id,
        "epoch": season.epoch,
        "since": season.as_of,
        "after": season.low_id,
        "last_id": last_id,
    }
    row = await (await conn.execute(_BEGIN, asked)).fetchone()
    if row is None:
        return None
    moment, low_id, high_id = row
    return await keep(conn, season, moment, low_id=low_id, high_id=high_id, reach=reach)


async def keep(
    conn: Connection,
    season: Active,
    moment: dt.datetime,
    *,
    low_id: int,
    high_id: int,
    reach: Reach = _nothing,
) -> int | None:
    """Keep the standings as of a moment that is settled. Scores of later have ids above `low_id`, those of until then
    none above `high_id`. Returns as `make`."""
    season_id = season.season_id
    row = await (await conn.execute(_SEASON, (season_id,))).fetchone()
    assert row is not None
    floor, epoch, *rules = row
    then = await from_snapshot(conn, Then(season_id, moment, epoch, Rules(*rules)))
    if (epoch, then.snapshot.low_id) != (season.epoch, season.low_id):
        return None
    asked = {**then.parameters(), "hidden_at": LONG_AGO, "high_id": high_id, "new_low_id": low_id}
    async with conn.transaction() as transaction:
        made = (await conn.execute(make_of(then.rules), asked)).rowcount
        reach("snapshot-written")
        stands = await _one(conn, _STANDS, (floor, epoch, season_id))
        if not stands:
            raise psycopg.Rollback(transaction)
    return made if stands else None


async def _one(conn: Connection, query: str, parameters: tuple[Any, ...] = ()) -> Any:
    row = await (await conn.execute(query, parameters)).fetchone()
    return None if row is None else row[0]


@lru_cache
def make_of(rules: Rules) -> str:
    """The statement that writes a snapshot."""
    return changes(rules) + _MAKE.replace("{best_first}", order_of(rules))


async def forget(conn: Connection, season_id: SeasonId, user_id: UserId, *, again: bool) -> None:
    """Erase a player from all snapshots of a season, in the transaction that erases that player elsewhere, under the
    season's lock. `again`: scores of that player remain. Looks each snapshot's row up by its key."""
    asked = {"season_id": season_id, "user_id": user_id, "again": again}
    await conn.execute(_FORGET, asked)
    await conn.execute(_UNSETTLE, asked)


async def purge(conn: Connection, limit: int) -> int:
    """Delete at most `limit` standings of epochs that are neither current nor archived; returns how many."""
    deleted = (await conn.execute(PURGE, (limit, limit))).rowcount
    if deleted < limit:
        await conn.execute(_PURGE_HEADS)
    return deleted
