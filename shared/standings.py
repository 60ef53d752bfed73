"""Standings: the ledger folded to one absolute score per player, and the token of its last change.

The board in Redis is a copy of the rows of a season's current epoch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from psycopg import sql

from shared.postgres import Connection
from shared.scores import SeasonId, UserId

# Only events of the season's current epoch count; those before a reset are without effect. The seasons' rows are
# locked and carry the new token already. In order, so that rows are locked in the same order by everyone.
_FOLD = """
insert into standings as standing (season_id, epoch, user_id, score, token)
select event.season_id, event.epoch, event.user_id, sum(event.delta)::bigint, season.token
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s)
group by event.season_id, event.epoch, event.user_id, season.token
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update
set score = coalesce(standing.score, 0) + excluded.score, token = excluded.token
returning season_id, user_id, score
"""

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

_CHANGED_SINCE = """
select season_id, user_id, score from standings
where season_id = %s and epoch = %s and token > %s limit %s
"""

_EXCEED = "select exists (select from standings where season_id = %s and epoch = %s offset %s)"

_ALL = "select user_id, score from standings where season_id = {} and epoch = {} and score is not null"


class Standing(NamedTuple):
    """A player's absolute score; None = not on the board."""

    season_id: SeasonId
    user_id: UserId
    score: int | None


async def fold(conn: Connection, event_ids: Sequence[int]) -> list[Standing]:
    """Add the events to their players' standings; returns each changed standing.

    Raises psycopg.DataError or IntegrityError when a sum leaves ±(2^53 - 1).
    """
    cursor = await conn.execute(_FOLD, (list(event_ids),))
    return [Standing(*row) for row in await cursor.fetchall()]


async def touch(conn: Connection, event_ids: Sequence[int]) -> list[Standing]:
    """Put the new token on the standings of the events' players without folding the events."""
    cursor = await conn.execute(_TOUCH, (list(event_ids),))
    return [Standing(*row) for row in await cursor.fetchall()]


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
