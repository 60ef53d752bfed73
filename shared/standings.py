"""Standings: the ledger folded to one absolute score per player, and the token of its last change.

The board in Redis is a copy of the rows of a season's current epoch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final, NamedTuple

from psycopg import sql

from shared.postgres import Connection
from shared.scores import Aggregation, SeasonId, UserId

# Only events of the season's current epoch count; those before a reset are without effect. The seasons' rows are
# locked and carry the new token already. In order, so that rows are locked in the same order by everyone.
_SUM = """
insert into standings as standing (season_id, epoch, user_id, score, token)
select event.season_id, event.epoch, event.user_id, sum(event.delta)::bigint, season.token
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s::bigint[]) and season.aggregation = 'sum'
group by event.season_id, event.epoch, event.user_id, season.token
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update
set score = coalesce(standing.score, 0) + excluded.score, token = excluded.token
returning season_id, user_id, score
"""

# Of each player the event that counts most, if it counts more than the one that the standing is of: a better score, of
# equal ones the earlier; or the later one. Ids say which is earlier: a clock may step back between two scores. In
# whatever order batches come, the same is left in the end. A standing that stays is not touched, and need not be shown.
_PICK = """
insert into standings as standing (season_id, epoch, user_id, score, reached_at, reached_by, token)
select distinct on (event.season_id, event.epoch, event.user_id)
  event.season_id, event.epoch, event.user_id, event.delta, event.created_at, event.id, season.token
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s::bigint[]) and season.aggregation = '{aggregation}'
order by event.season_id, event.epoch, event.user_id, {first}
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by, token = excluded.token
where standing.score is null or standing.reached_by is null or {counts_more}
returning season_id, user_id, score
"""

_BEST = _PICK.format(
    aggregation="best",
    first="case season.sort_order when 'asc' then event.delta else -event.delta end, event.id",
    counts_more="""
  case when excluded.score = standing.score
    then excluded.reached_by < standing.reached_by
    else (excluded.score < standing.score) = (select season.sort_order = 'asc' from seasons as season
                                              where season.season_id = standing.season_id)
  end""",
)

_LATEST = _PICK.format(
    aggregation="latest",
    first="event.id desc",
    counts_more="excluded.reached_by > standing.reached_by",
)

_FOLDS: Final[dict[Aggregation, str]] = {"sum": _SUM, "best": _BEST, "latest": _LATEST}

# The players of events that will not be folded: a batch that never committed may have shown such an event. Their
# standing, or the fact that they have none, is sent again under the new token.
_TOUCH = """
insert into standings as standing (season_id, epoch, user_id, score, token)
select distinct event.season_id, event.epoch, event.user_id, null::bigint, season.token
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s)
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token
returning season_id, user_id, score
"""

# The same for players by name: what a board shows wrongly is sent again, tombstones for players without a standing.
_TOUCH_PLAYERS = """
insert into standings as standing (season_id, epoch, user_id, score, token)
select season.season_id, season.epoch, player.user_id, null::bigint, season.token
from seasons as season, unnest(%s::text[]) as player (user_id)
where season.season_id = %s
order by player.user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token
returning season_id, user_id, score
"""

# By key, not by cursor: a snapshot held open through a large season would keep vacuum from the whole database. The
# epoch as a value, not from a join: with a join the planner sorts the rest of the season for every page.
PAGE = """
select season_id, user_id, score from standings
where season_id = %s and epoch = (select epoch from seasons where season_id = %s) and user_id > %s
order by user_id limit %s
"""

OF_PLAYERS = """
select season_id, user_id, score from standings
where season_id = %s and epoch = (select epoch from seasons where season_id = %s) and user_id = any(%s)
"""

_CHANGED_SINCE = """
select season_id, user_id, score from standings
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

_ALL = "select user_id, score from standings where season_id = {} and epoch = {} and score is not null"


class Standing(NamedTuple):
    """A player's absolute score; None = not on the board."""

    season_id: SeasonId
    user_id: UserId
    score: int | None


async def fold(conn: Connection, event_ids: Sequence[int], aggregations: Collection[Aggregation]) -> list[Standing]:
    """Fold the events into their players' standings; returns each changed standing.

    `aggregations`: those of the events' seasons. Raises psycopg.DataError or IntegrityError when a sum leaves
    ±(2^53 - 1).
    """
    # As text: psycopg turns a list into an array one element after the other, ten times as slowly.
    ids = f"{{{','.join(map(str, event_ids))}}}"
    changed: list[Standing] = []
    for aggregation in sorted(aggregations):
        cursor = await conn.execute(_FOLDS[aggregation], (ids,))
        changed += map(Standing._make, await cursor.fetchall())
    return changed


async def touch(conn: Connection, event_ids: Sequence[int]) -> list[Standing]:
    """Put the new token on the standings of the events' players without folding the events."""
    cursor = await conn.execute(_TOUCH, (list(event_ids),))
    return [Standing(*row) for row in await cursor.fetchall()]


async def touch_players(conn: Connection, season_id: SeasonId, user_ids: Sequence[UserId]) -> list[Standing]:
    """Put the locked season's new token on the standings of these players; who has none gets a tombstone."""
    cursor = await conn.execute(_TOUCH_PLAYERS, (list(user_ids), season_id))
    return [Standing(*row) for row in await cursor.fetchall()]


async def page(conn: Connection, season_id: SeasonId, after: str, limit: int) -> list[Standing]:
    """Standings of the current epoch in the order of user ids, tombstones too, behind `after` ('' = from the first)."""
    cursor = await conn.execute(PAGE, (season_id, season_id, after, limit))
    return [Standing(*row) for row in await cursor.fetchall()]


async def of_players(conn: Connection, season_id: SeasonId, user_ids: Sequence[UserId]) -> dict[UserId, int | None]:
    """Scores in the current epoch; None for a tombstone, no entry for who has no row at all."""
    cursor = await conn.execute(OF_PLAYERS, (season_id, season_id, list(user_ids)))
    return {user_id: score for _, user_id, score in await cursor.fetchall()}


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


async def changed_since(conn: Connection, season_id: SeasonId, epoch: int, token: int, limit: int) -> list[Standing]:
    """Standings changed by batches after `token`, tombstones too; at most `limit`, in no order."""
    cursor = await conn.execute(_CHANGED_SINCE, (season_id, epoch, token, limit))
    return [Standing(*row) for row in await cursor.fetchall()]


async def exceed(conn: Connection, season_id: SeasonId, epoch: int, count: int) -> bool:
    """Whether the season has more than `count` standings; reads no more than that."""
    row = await (await conn.execute(_EXCEED, (season_id, epoch, count))).fetchone()
    assert row is not None
    return bool(row[0])


async def stream(
    conn: Connection, season_id: SeasonId, epoch: int, chunk: int
) -> AsyncIterator[list[tuple[UserId, int]]]:
    """All players on the board, in chunks, in no order. Must run inside a transaction."""
    query = sql.SQL(_ALL).format(sql.Literal(season_id), sql.Literal(epoch))
    async with conn.cursor(name="standings") as cursor:
        await cursor.execute(query)
        while rows := await cursor.fetchmany(chunk):
            yield [(UserId(user_id), score) for user_id, score in rows]
