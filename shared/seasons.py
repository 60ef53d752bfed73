"""The season's row: its lock, its epoch, its fence token. The only writer of table `seasons` but for creation.

Why these are statements of their own, in this order, is argued in docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from psycopg import sql

from shared import epochs
from shared.postgres import Connection, Pool
from shared.scores import PLAIN, Rules, SeasonId

EpochTable: TypeAlias = Literal["standings", "window_buckets"]
"""Tables whose rows are needed in the current epoch only. Their keys begin with season and epoch."""

# Grows at every promotion of a replica, and at every restore: a deposed primary's scripts are recognised by it, and
# boards that show what a restored PostgreSQL does not have. The history, seconds of the clock at the last restore, in
# the high bits: with PostgreSQL's own timeline below them it stays under 2^53, which Lua holds exactly, until 2106.
_TIMELINE = """
(select coalesce(max(history), 0) from restores) << 21
  | ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"""

# In id order, so that batches over the same seasons queue up instead of deadlocking. What FOR UPDATE returns after
# waiting is the row as the one before us committed it.
_ROW = f"""
select season_id, epoch, token, {_TIMELINE}, patch_floor, aggregation, sort_order, windows, tie_break, hides
from seasons"""  # noqa: S608 - constants

_LOCK = f"{_ROW} where season_id = any(%s) order by season_id for update"

_LOCKABLE = "select season_id from seasons where season_id = any(%s) order by season_id for update skip locked"

# Not part of _LOCK: PostgreSQL may compute a token before it waits for the lock, and then tokens would not grow in
# lock order. Not from a sequence: after a crash an uncommitted nextval can be handed out again. Where the clock is not
# ahead of the last token, a random step: `+ 1` would repeat the token of a batch that never committed.
_ADVANCE = """
update seasons
set token = greatest(token + 1 + (random() * 1000)::bigint * (clock.us <= token)::int, clock.us)
from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint) as clock (us)
where season_id = any(%s) returning season_id, token
"""

_ADVANCE_BEYOND = "update seasons set token = greatest(token, %s) + 1 where season_id = %s returning token"

_NEXT_EPOCH = "update seasons set epoch = epoch + 1, closed_at = null where season_id = %s"

_NOTE_HIDDEN = """
update seasons set hides = exists (select from hidden_players where hidden_players.season_id = seasons.season_id)
where season_id = %s
"""

_NOTE_ERASED = "update seasons set patch_floor = token where season_id = %s"

_FENCES_AFTER = f"{_ROW} where season_id > %s order by season_id limit %s"

_NOTE_RESTORE = """
insert into restores (history)
select greatest(extract(epoch from clock_timestamp())::bigint, 1 + coalesce(max(history), 0), %s) from restores
returning history
"""

_IDS = "select season_id from seasons order by season_id"

_KNOWN = "select season_id from seasons where season_id = any(%s) order by season_id"

_FENCE = f"{_ROW} where season_id = %s"

# ctid: the cheapest way to name a bounded number of rows. The order makes the planner walk the primary key, which
# begins with season and epoch; without it, it reads the whole table once there is nothing left to delete.
PURGE = """
delete from {table} where ctid = any(array(
  select ended.ctid from seasons as season, lateral (
    select old.ctid from {table} as old
    where old.season_id = season.season_id and old.epoch < season.epoch
    order by old.epoch limit %s) as ended
  where season.epoch > 1 limit %s))
"""


class Fence(NamedTuple):
    """A season's row as of now: `token` is that of the last committed batch, `timeline` the ledger's history and
    PostgreSQL's timeline in one number.

    `patch_floor`: boards whose base is before this token are built anew, not patched: a player was erased since.
    """

    season_id: SeasonId
    epoch: int
    token: int
    timeline: int
    rules: Rules = PLAIN
    patch_floor: int = 0


async def lock(conn: Connection, season_ids: Sequence[SeasonId]) -> list[Fence]:
    """Lock the rows until the transaction ends. psycopg.errors.LockNotAvailable after the session's lock_timeout."""
    cursor = await conn.execute(_LOCK, (sorted(season_ids),))
    return [_fence(row) for row in await cursor.fetchall()]


async def lockable(conn: Connection, season_ids: Sequence[SeasonId]) -> set[SeasonId]:
    """Which of the seasons nobody holds at this moment."""
    cursor = await conn.execute(_LOCKABLE, (list(season_ids),))
    return {row[0] for row in await cursor.fetchall()}


async def advance(conn: Connection, season_ids: Sequence[SeasonId]) -> dict[SeasonId, int]:
    """Give each locked season a new token, greater than any before. Microseconds, or the last one + 1."""
    cursor = await conn.execute(_ADVANCE, (list(season_ids),))
    return {row[0]: row[1] for row in await cursor.fetchall()}


async def advance_beyond(conn: Connection, season_id: SeasonId, token: int) -> int:
    """A new token greater than `token` too, which a batch that never committed left in Redis.

    That the statement succeeds proves that this session, and with it the season's lock, is alive.
    """
    cursor = await conn.execute(_ADVANCE_BEYOND, (token, season_id))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def begin_next_epoch(
    conn: Connection, season_id: SeasonId, reason: epochs.Reason = "reset", *, archived: bool = False
) -> None:
    """In the locked season whatever carries an older epoch counts no more, and it is open. O(1) for any size.

    `archived`: the one that ends stays readable.
    """
    await epochs.end(conn, season_id, reason, archived=archived, followed=True)
    await conn.execute(_NEXT_EPOCH, (season_id,))
    await advance(conn, [season_id])


async def note_hidden(conn: Connection, season_id: SeasonId) -> None:
    """Players of the locked season were hidden, or are no longer."""
    await conn.execute(_NOTE_HIDDEN, (season_id,))


async def note_erased(conn: Connection, season_id: SeasonId) -> None:
    """A player of the locked season, which has its new token, was erased without a tombstone."""
    await conn.execute(_NOTE_ERASED, (season_id,))


async def renewed(conn: Connection, fences: Sequence[Fence]) -> list[Fence]:
    """The fences of locked seasons, with what moderation has changed: repairs of their boards must know of it."""
    cursor = await conn.execute(f"{_ROW} where season_id = any(%s)", ([fence.season_id for fence in fences],))
    now = {row[0]: _fence(row) for row in await cursor.fetchall()}
    return [
        fence._replace(rules=now[fence.season_id].rules, patch_floor=now[fence.season_id].patch_floor)
        for fence in fences
    ]


async def fences_after(conn: Connection, season_id: str, limit: int) -> list[Fence]:
    """Seasons in id order behind `season_id` ('' = from the first), without locks.

    Also those that were never projected: a fail-over may have taken a season's first commit, but not its board.
    """
    cursor = await conn.execute(_FENCES_AFTER, (season_id, limit))
    return [_fence(row) for row in await cursor.fetchall()]


async def fence(conn: Connection, season_id: SeasonId) -> Fence | None:
    """The season's row as of now, without a lock; None where there is no such season."""
    row = await (await conn.execute(_FENCE, (season_id,))).fetchone()
    return None if row is None else _fence(row)


async def timeline(conn: Connection) -> int:
    """See Fence."""
    row = await (await conn.execute(f"select {_TIMELINE}")).fetchone()
    assert row is not None
    return int(row[0])


async def history(conn: Connection) -> int:
    """That of the last restore, 0 = it was never restored."""
    row = await (await conn.execute("select coalesce(max(history), 0) from restores")).fetchone()
    assert row is not None
    return int(row[0])


async def note_restore(conn: Connection, at_least: int = 0) -> int:
    """Begin a new history of the ledger, `at_least` so large; returns it. Whatever boards show is from before it, so
    all of them are built anew from the standings, and who still writes for the old one is late."""
    row = await (await conn.execute(_NOTE_RESTORE, (at_least,))).fetchone()
    assert row is not None
    return int(row[0])


async def ids(conn: Connection) -> list[SeasonId]:
    """Every season that was ever written to, in order."""
    return [row[0] for row in await (await conn.execute(_IDS)).fetchall()]


async def known(conn: Connection, season_ids: Sequence[SeasonId]) -> list[SeasonId]:
    """Those of the seasons that were ever written to, in order."""
    return [row[0] for row in await (await conn.execute(_KNOWN, (list(season_ids),))).fetchall()]


async def fence_pages(pool: Pool, limit: int) -> AsyncIterator[list[Fence]]:
    """All seasons, `limit` at a time; no connection is held between two pages."""
    last = ""
    while True:
        async with pool.connection() as conn:
            page = await fences_after(conn, last, limit)
        if not page:
            return
        last = page[-1].season_id
        yield page


def _fence(row: Sequence[Any]) -> Fence:
    season_id, epoch, token, timeline, patch_floor, *rules = row
    return Fence(season_id, epoch, token, timeline, Rules(*rules), patch_floor)


async def purge_ended_epochs(conn: Connection, table: EpochTable, limit: int) -> int:
    """Delete at most `limit` rows of epochs that a reset ended; returns how many."""
    return (await conn.execute(sql.SQL(PURGE).format(table=sql.Identifier(table)), (limit, limit))).rowcount
