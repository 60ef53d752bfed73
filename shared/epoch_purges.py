"""What is left of epochs that ended goes: ledger rows and final ranks, once nobody may ask for them any more.

Each statement deletes at most so many rows, and looks up those of an epoch by their key.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from psycopg import sql

from shared.epochs import UNPURGED
from shared.postgres import Connection

Kept: TypeAlias = Literal["score_events", "final_ranks"]
"""Tables whose rows stay as long as their epoch is archived, or waits to be sealed."""

_PLACES: Final[dict[Kept, str]] = {"score_events": "id", "final_ranks": "rank"}

# A read that found its epoch readable is over by then.
_READ: Final = "(expired_at is null or expired_at < now() - interval '1 minute')"

# No transaction that adds to the ledger lasts that long: none will add to an epoch that ended before.
_OVER: Final = "next_began_at < now() - interval '1 hour'"

# As of shared.seasons.PURGE: ctid names a bounded number of rows, the order makes the planner walk the primary key.
_OF_EPOCH: Final = """
select old.ctid from {table} as old
where old.season_id = ended.season_id and old.epoch = ended.epoch order by old.{place} limit %s"""

# That the season itself is beyond the epoch is asked again: whatever came to be noted, what counts is never deleted.
PURGE: Final = f"""
delete from {{table}} where ctid = any(array(
  select kept.ctid from season_epochs as ended
  join seasons as season on season.season_id = ended.season_id and season.epoch > ended.epoch,
  lateral ({_OF_EPOCH}) as kept
  where {UNPURGED} and {_READ} limit %s))
"""  # noqa: S608 - constants

# Epochs that a build before this one ended were not noted: those before the first one that was, and those since the
# last one.
PURGE_UNNOTED: Final = """
delete from score_events where ctid = any(array(
  select ended.ctid from seasons as season, lateral (
    select min(epoch) as first, max(epoch) as last from season_epochs as known
    where known.season_id = season.season_id
  ) as noted, lateral (
    (select old.ctid from score_events as old
    where old.season_id = season.season_id and old.epoch < coalesce(noted.first, season.epoch)
    order by old.epoch limit %s)
    union all
    (select old.ctid from score_events as old
    where old.season_id = season.season_id and old.epoch > noted.last and old.epoch < season.epoch
    order by old.epoch limit %s)
  ) as ended
  where season.epoch > 1 limit %s))
"""

EXPIRE: Final = """
update season_epochs set archived = false, expired_at = now()
where archived and sealed_at is not null and sealed_at < now() - %s * interval '1 day'
"""

# Scalar subqueries: an anti-join might read all of the tables.
NOTE: Final = f"""
update season_epochs as ended set purged_at = now()
where {UNPURGED} and {_READ} and {_OVER}
  and ({_OF_EPOCH.format(table="score_events", place="id") % 1}) is null
  and ({_OF_EPOCH.format(table="final_ranks", place="rank") % 1}) is null
"""  # noqa: S608 - constants


async def expire(conn: Connection, retention_days: float) -> int:
    """Let archives that were sealed longer ago cease to be readable; returns how many. 0 = none ever."""
    return (await conn.execute(EXPIRE, (retention_days,))).rowcount if retention_days else 0


async def purge(conn: Connection, table: Kept, limit: int) -> int:
    """Delete at most `limit` rows of epochs that nobody may ask for any more; returns how many."""
    return (await conn.execute(purging(table), (limit, limit))).rowcount


async def purge_unnoted(conn: Connection, limit: int) -> int:
    """Delete at most `limit` ledger rows of epochs that ended before epochs were noted; returns how many."""
    return (await conn.execute(PURGE_UNNOTED, (limit, limit, limit))).rowcount


async def note(conn: Connection) -> None:
    """Note the epochs of which nothing is left, so that nothing looks for them again."""
    await conn.execute(NOTE)


def purging(table: Kept) -> sql.Composed:
    """The statement of `purge`."""
    return sql.SQL(PURGE).format(table=sql.Identifier(table), place=sql.Identifier(_PLACES[table]))
