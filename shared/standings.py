"""Standings: the ledger folded to one absolute score per player, and the token of its last change.

The board in Redis is a copy of the rows of a season's current epoch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from psycopg import sql

from shared.aggregates import FULL_COLUMNS, columns_of
from shared.postgres import Connection
from shared.scores import Rules, SeasonId, UserId

# The players of events that will not be folded: a batch that never committed may have shown such an event. Their
# standing, or the fact that they have none, is sent again under the new token.
_TOUCH = f"""
insert into standings as standing (season_id, epoch, user_id, score, token)
select distinct event.season_id, event.epoch, event.user_id, null::bigint, season.token
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s)
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token
returning {FULL_COLUMNS}
"""  # noqa: S608 - constants

# The same for players by name: what a board shows wrongly is sent again, tombstones for players without a standing.
_TOUCH_PLAYERS = f"""
insert into standings as standing (season_id, epoch, user_id, score, token)
select season.season_id, season.epoch, player.user_id, null::bigint, season.token
from seasons as season, unnest(%s::text[]) as player (user_id)
where season.season_id = %s
order by player.user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token
returning {FULL_COLUMNS}
"""  # noqa: S608 - constants

_FORGET = "delete from standings where season_id = %s and user_id = %s and score is null"

# By key, not by cursor: a snapshot held open through a large season would keep vacuum from the whole database. The
# epoch as a value, not from a join: with a join the planner sorts the rest of the season for every page.
_PAGE = """
select {columns} from standings as standing
where season_id = %s and epoch = (select epoch from seasons where season_id = %s) and user_id > %s
order by user_id limit %s
"""

_OF_PLAYERS = """
select {columns} from standings as standing
where season_id = %s and epoch = (select epoch from seasons where season_id = %s) and user_id = any(%s)
"""

_CHANGED_SINCE = """
select {columns} from standings as standing
where season_id = %s and epoch = %s and token > %s limit %s
"""

_EXCEED = "select exists (select from standings where season_id = %s and epoch = %s offset %s)"

_COUNT = "select count(*) from standings where season_id = %s and epoch = %s and score is not null"

# Seasons in the order of their ids, no further than that many of them. Not a join, for which the planner might read all
# standings: a look at the primary key for each.
SEASONS_OF = """
with walked as materialized (select season_id, epoch from seasons where season_id > %s order by season_id limit %s)
select
  array(
    select walked.season_id from walked, lateral (
      select from standings
      where season_id = walked.season_id and epoch = walked.epoch and user_id = %s and score is not null offset 0
    ) as there
    order by walked.season_id limit %s),
  (select max(season_id) from walked), (select count(*) from walked)
"""

_WALK: Final = 10_000
"""Seasons that one question looks through: 19 ms where the player is in none of them."""

_ALL = """
select {columns} from standings as standing where season_id = {season_id} and epoch = {epoch} and score is not null
"""


class Standing(NamedTuple):
    """A player's absolute score, None = not on the board, when it was reached, in microseconds, and by which event.

    The same of each window behind it. A season whose rules are plain has the first score and nothing else.
    """

    season_id: SeasonId
    user_id: UserId
    score: int | None
    reached_at: int | None = None
    reached_by: int | None = None
    score_24h: int | None = None
    reached_at_24h: int | None = None
    reached_by_24h: int | None = None
    score_3d: int | None = None
    reached_at_3d: int | None = None
    reached_by_3d: int | None = None
    score_7d: int | None = None
    reached_at_7d: int | None = None
    reached_by_7d: int | None = None


def page_of(rules: Rules) -> str:
    """The statement of `page`."""
    return _PAGE.format(columns=columns_of(rules))


def players_of(rules: Rules) -> str:
    """The statement of `of_players`."""
    return _OF_PLAYERS.format(columns=columns_of(rules))


async def touch(conn: Connection, event_ids: Sequence[int]) -> list[Standing]:
    """Put the new token on the standings of the events' players without folding the events."""
    cursor = await conn.execute(_TOUCH, (list(event_ids),))
    return [Standing(*row) for row in await cursor.fetchall()]


async def touch_players(conn: Connection, season_id: SeasonId, user_ids: Sequence[UserId]) -> list[Standing]:
    """Put the locked season's new token on the standings of these players; who has none gets a tombstone."""
    cursor = await conn.execute(_TOUCH_PLAYERS, (list(user_ids), season_id))
    return [Standing(*row) for row in await cursor.fetchall()]


async def forget(conn: Connection, season_id: SeasonId, user_id: UserId) -> None:
    """Leave no tombstone of the player either; see `shared.seasons.note_erased`."""
    await conn.execute(_FORGET, (season_id, user_id))


async def page(conn: Connection, season_id: SeasonId, rules: Rules, after: str, limit: int) -> list[Standing]:
    """Standings of the current epoch in the order of user ids, tombstones too, behind `after` ('' = from the first)."""
    cursor = await conn.execute(page_of(rules), (season_id, season_id, after, limit))
    return [Standing(*row) for row in await cursor.fetchall()]


async def of_players(
    conn: Connection, season_id: SeasonId, rules: Rules, user_ids: Sequence[UserId]
) -> dict[UserId, Standing]:
    """Standings in the current epoch, tombstones too; no entry for who has no row at all."""
    cursor = await conn.execute(players_of(rules), (season_id, season_id, list(user_ids)))
    found = [Standing(*row) for row in await cursor.fetchall()]
    return {row.user_id: row for row in found}


async def count(conn: Connection, season_id: SeasonId, epoch: int) -> int:
    """How many players the board must show."""
    row = await (await conn.execute(_COUNT, (season_id, epoch))).fetchone()
    assert row is not None
    return int(row[0])


async def seasons_of(
    conn: Connection, user_id: UserId, after: str, limit: int
) -> tuple[list[SeasonId], SeasonId | None]:
    """Up to `limit` seasons behind `after` ('' = from the first) in which the player has a score, in the order of their
    ids; and behind which one to go on, None = there are no more. Fewer may come although there are."""
    row = await (await conn.execute(SEASONS_OF, (after, _WALK, user_id, limit + 1))).fetchone()
    assert row is not None
    found, last, walked = row
    if len(found) > limit:
        return found[:limit], found[limit - 1]
    return found, last if walked == _WALK else None


async def changed_since(
    conn: Connection, season_id: SeasonId, rules: Rules, *, epoch: int, token: int, limit: int
) -> list[Standing]:
    """Standings changed by batches after `token`, tombstones too; at most `limit`, in no order."""
    query = _CHANGED_SINCE.format(columns=columns_of(rules))
    cursor = await conn.execute(query, (season_id, epoch, token, limit))
    return [Standing(*row) for row in await cursor.fetchall()]


async def exceed(conn: Connection, season_id: SeasonId, epoch: int, count: int) -> bool:
    """Whether the season has more than `count` standings; reads no more than that."""
    row = await (await conn.execute(_EXCEED, (season_id, epoch, count))).fetchone()
    assert row is not None
    return bool(row[0])


async def stream(
    conn: Connection, season_id: SeasonId, rules: Rules, epoch: int, chunk: int
) -> AsyncIterator[list[Standing]]:
    """All players on the board, in chunks, in no order. Must run inside a transaction."""
    query = sql.SQL(_ALL.replace("{columns}", columns_of(rules)))
    async with conn.cursor(name="standings") as cursor:
        await cursor.execute(query.format(season_id=sql.Literal(season_id), epoch=sql.Literal(epoch)))
        while rows := await cursor.fetchmany(chunk):
            yield [Standing(*row) for row in rows]
