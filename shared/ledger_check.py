"""Standings against the ledger: exact in one snapshot, whatever is being written meanwhile.

Batches, resets and discards each change standings, outbox and ledger in one transaction, so that a snapshot holds all
of it or nothing. Repairs are statements under the season's lock.
"""

from __future__ import annotations

from typing import Final

from psycopg import sql

from shared import seasons
from shared.findings import Difference, Report, kind_of
from shared.postgres import Connection, Pool
from shared.projection import Projection
from shared.reconciliation import amend, retried_when_late
from shared.scores import MAX_SCORE, Aggregation, Order, SeasonId, UserId
from shared.standings import Standing

_FETCH: Final = 1000
_REPAIR_LIMIT: Final = 5000
"""Standings that one transaction repairs. Each reads the whole season's ledger, about a second per million events."""

# What counts: events that were not given up and whose outbox row is done, or purged because it was. Two `not exists`,
# each in the words of a partial index: `status <> 'done'` would read the whole outbox for every season.
_COUNTED = """
  select event.user_id, {score} as score, {reached_at} as reached_at, {reached_by} as reached_by
  from score_events as event
  where event.season_id = {season_id} and event.epoch = {epoch} and event.discarded_at is null
    and not exists (select from outbox where outbox.id = event.id and outbox.status = 'pending')
    and not exists (select from outbox where outbox.id = event.id and outbox.status = 'failed')
  group by event.user_id
"""

# As `shared.standings` folds.
_SCORES: Final[dict[Aggregation, dict[str, str]]] = {
    "sum": {"score": "sum(event.delta)", "reached_at": "null::timestamptz", "reached_by": "null::bigint"},
    "best": {
        "score": "(array_agg(event.delta {best}))[1]",
        "reached_at": "(array_agg(event.created_at {best}))[1]",
        "reached_by": "(array_agg(event.id {best}))[1]",
    },
    "latest": {
        "score": "(array_agg(event.delta {latest}))[1]",
        "reached_at": "(array_agg(event.created_at {latest}))[1]",
        "reached_by": "(array_agg(event.id {latest}))[1]",
    },
}
_BEST: Final[dict[Order, str]] = {
    "desc": "order by event.delta desc, event.id",
    "asc": "order by event.delta, event.id",
}
_LATEST: Final = "order by event.id desc"

_SHOWN = """
  select user_id, score, reached_by from standings
  where season_id = {season_id} and epoch = {epoch} and score is not null
"""

# Statistics of the outbox are never fresh: where they say that nothing is pending, the planner would read all that is
# pending anew for every event. Hashing it once is right for any number.
NO_NESTED_LOOPS = "set local enable_nestloop = off"

# The first row holds the two counts, so that the ledger is summed once. A tombstone equals a player without events.
COMPARE = f"""
with ledger as materialized ({_COUNTED}), standing as materialized ({_SHOWN})
select null, (select count(*) from ledger), (select count(*) from standing)
union all
select user_id, ledger.score, standing.score
from ledger full join standing using (user_id)
where (ledger.score, ledger.reached_by) is distinct from (standing.score, standing.reached_by)
"""  # noqa: S608 - made of constants

REPAIR = f"""
with ledger as ({_COUNTED}), standing as ({_SHOWN})
insert into standings as kept (season_id, epoch, user_id, score, reached_at, reached_by, token)
select {{season_id}}, {{epoch}}, user_id, ledger.score::bigint, ledger.reached_at, ledger.reached_by,
  (select token from seasons where season_id = {{season_id}})
from ledger full join standing using (user_id)
where (ledger.score, ledger.reached_by) is distinct from (standing.score, standing.reached_by)
  and coalesce(ledger.score, 0) between -{MAX_SCORE} and {MAX_SCORE}
order by user_id limit {_REPAIR_LIMIT}
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by, token = excluded.token
returning season_id, user_id, score
"""  # noqa: S608 - made of constants


async def compare_standings(conn: Connection, report: Report) -> int:
    """Note each standing of the report's season that is not what its events come to, and the number of players.

    Returns how many of them `repair_standings` can't mend, because the sum leaves ±(2^53 - 1). `conn` is in
    autocommit; memory is bounded whatever the size of the season.
    """
    hopeless = 0
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read, read only")
        await conn.execute(NO_NESTED_LOOPS)
        await conn.execute("set local cursor_tuple_fraction = 1")  # all rows are wanted, not the first ones soon
        fence = await seasons.fence(conn, report.season_id)
        if fence is None:
            return 0
        async with conn.cursor(name="differences") as cursor:
            await cursor.execute(of_season(COMPARE, fence))
            counts = await cursor.fetchone()
            assert counts is not None
            report.ledger_players, report.standing_players = int(counts[1]), int(counts[2])
            while rows := await cursor.fetchmany(_FETCH):
                for user_id, summed, standing in rows:
                    expected = None if summed is None else int(summed)
                    found = None if standing is None else int(standing)
                    report.note(Difference(kind_of("standing", expected, found), UserId(user_id), expected, found))
                    hopeless += expected is not None and abs(expected) > MAX_SCORE
    return hopeless


async def repair_standings(pool: Pool, projection: Projection, season_id: SeasonId) -> int:
    """Make each standing what its events come to, and show it; returns how many were not.

    Holds the season's lock for as long as its ledger takes to be summed. Raises as `shared.reconciliation.amend`.
    """
    total = 0
    while True:
        repaired = await retried_when_late(pool, projection, lambda: _repair_some(pool, projection, season_id))
        total += repaired
        if repaired < _REPAIR_LIMIT:
            return total


async def _repair_some(pool: Pool, projection: Projection, season_id: SeasonId) -> int:
    repaired: list[Standing] = []

    async def change(conn: Connection) -> list[Standing]:
        fence = await seasons.fence(conn, season_id)
        assert fence is not None
        await conn.execute(NO_NESTED_LOOPS)
        cursor = await conn.execute(of_season(REPAIR, fence))
        repaired.extend(Standing(*row) for row in await cursor.fetchall())
        return repaired

    async with pool.connection() as conn, conn.transaction():
        await amend(conn, projection, season_id, change)
    return len(repaired)


def of_season(query: str, fence: seasons.Fence) -> sql.Composed:
    """COMPARE or REPAIR of this season. Values as literals: DECLARE takes no parameters."""
    orders = {"best": _BEST[fence.order], "latest": _LATEST}
    scores = {name: sql.SQL(text.format(**orders)) for name, text in _SCORES[fence.aggregation].items()}
    return sql.SQL(query).format(season_id=sql.Literal(fence.season_id), epoch=sql.Literal(fence.epoch), **scores)
