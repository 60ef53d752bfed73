"""Standings against the ledger: exact in one snapshot, whatever is being written meanwhile.

Batches, resets and discards each change standings, outbox and ledger in one transaction, so that a snapshot holds all
of it or nothing. Repairs are statements under the season's lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import chain
from typing import Final

from psycopg import sql

from shared import erasing, seasons
from shared.aggregates import (
    ALL_TIME,
    AS_OF,
    FULL_COLUMNS,
    LEAVES,
    MINUTE,
    MOMENT,
    STANDS,
    VALUES,
    WITHIN,
    Place,
    aggregates,
    array_of,
    held,
    names,
    places_of,
)
from shared.findings import Difference, Report, kind_of
from shared.postgres import Connection, Pool
from shared.projection import Projection
from shared.reconciliation import amend, retried_when_late
from shared.scores import MAX_SCORE, Rules, SeasonId, UserId
from shared.standings import Standing
from shared.windows import BOARDS

_FETCH: Final = 1000
_REPAIR_LIMIT: Final = 5000
"""Standings that one transaction repairs. Each reads the whole season's ledger, about a second per million events."""

# What counts: events that were not given up and whose outbox row is done, or purged because it was. Two `not exists`,
# each in the words of a partial index: `status <> 'done'` would read the whole outbox for every season.
EVENTS: Final = f"""
  select event.user_id, event.delta as score, {MOMENT} as at, event.id, {{minute}} as minute
  from score_events as event
  where event.season_id = {{season_id}} and event.epoch = {{epoch}} and {STANDS}
    and not exists (select from outbox where outbox.id = event.id and outbox.status = 'pending')
    and not exists (select from outbox where outbox.id = event.id and outbox.status = 'failed')
"""  # noqa: S608 - constants
"""The events of an epoch that count; `minute`: null where nobody asks for it."""

_COUNTED = f"""
  select user_id, {{aggregates}} from (select *, {{within}} as within from ({EVENTS}) as event) as event
  group by user_id
"""  # noqa: S608 - constants

_AS_OF = f"(select {AS_OF} from seasons as season where season.season_id = {{season_id}})"  # noqa: S608 - constants

# Of whom a part is erased already, who is on no board, and counted anew in the end.
_NOT_ERASED = f"not {erasing.of_player('{season_id}', '{player}')}"

# What is to leave a window as soon as a worker looks is left alone.
_SETTLED = f"""{_NOT_ERASED} and not exists (
    select from window_buckets as bucket
    where bucket.season_id = {{season_id}} and bucket.epoch = {{epoch}} and bucket.user_id = {{player}}
      and bucket.leaves_at <= {_AS_OF})"""

_SHOWN = """
  select user_id, {shown} from standings as row
  where season_id = {season_id} and epoch = {epoch} and score is not null
"""

# Statistics of the outbox are never fresh: where they say that nothing is pending, the planner would read all that is
# pending anew for every event. Hashing it once is right for any number.
NO_NESTED_LOOPS = "set local enable_nestloop = off"

# The first row holds the two counts, so that the ledger is summed once. A tombstone equals a player without events.
_COMPARE = f"""
with ledger as materialized ({_COUNTED}), standing as materialized ({_SHOWN})
select null, (select count(*) from ledger), (select count(*) from standing){{padding}}
union all
select user_id, {{pairs}}
from ledger full join standing using (user_id)
where ({{of_ledger}}) is distinct from ({{of_standing}}) and {{settled}}
"""  # noqa: S608 - made of constants

_REPAIR = f"""
with ledger as ({_COUNTED}), standing as ({_SHOWN})
insert into standings as standing (season_id, epoch, user_id, score, reached_at, reached_by, windows, token)
select {{season_id}}, {{epoch}}, user_id, {{told}}, (select token from seasons where season_id = {{season_id}})
from ledger full join standing using (user_id)
where ({{of_ledger}}) is distinct from ({{of_standing}}) and {{settled}}
  and coalesce(ledger.score, 0) between -{MAX_SCORE} and {MAX_SCORE}
order by user_id limit {_REPAIR_LIMIT}
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by,
  windows = excluded.windows, token = excluded.token
returning {FULL_COLUMNS}
"""  # noqa: S608 - made of constants

_MINUTES = f"""
with event as materialized (
  select *, {{within}} as within from ({EVENTS}) as event
), ledger as (
  select user_id, minute, {LEAVES.format(minute="minute", within="within")} as leaves_at, {{of_minute}}
  from event where within > 0 group by user_id, minute, within
), kept as (
  select user_id, minute, leaves_at, score, reached_at, reached_by from window_buckets
  where season_id = {{season_id}} and epoch = {{epoch}}
), differing as materialized (
  select user_id, minute, ledger.score, ledger.reached_at, ledger.reached_by, ledger.leaves_at, kept.score as found
  from ledger full join kept using (user_id, minute)
  where (ledger.score, ledger.reached_at, ledger.reached_by, ledger.leaves_at)
    is distinct from (kept.score, kept.reached_at, kept.reached_by, kept.leaves_at) and {{settled}}
)"""  # noqa: S608 - constants

_COMPARE_MINUTES = f"{_MINUTES} select user_id, score, found from differing"  # noqa: S608 - constants

_REPAIR_MINUTES = f"""
{_MINUTES}, extra as (
  delete from window_buckets as bucket using differing
  where bucket.season_id = {{season_id}} and bucket.epoch = {{epoch}} and bucket.user_id = differing.user_id
    and bucket.minute = differing.minute and differing.score is null
)
insert into window_buckets as bucket (season_id, epoch, user_id, minute, score, reached_at, reached_by, leaves_at)
select {{season_id}}, {{epoch}}, user_id, minute, score, reached_at, reached_by, leaves_at
from differing where score is not null order by user_id, minute
on conflict (season_id, epoch, user_id, minute) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by,
  leaves_at = excluded.leaves_at
"""  # noqa: S608 - made of constants

_OF_MINUTES = (_COMPARE_MINUTES, _REPAIR_MINUTES)


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
            await cursor.execute(comparison(fence))
            counts = await cursor.fetchone()
            assert counts is not None
            report.ledger_players, report.standing_players = int(counts[1]), int(counts[2])
            while rows := await cursor.fetchmany(_FETCH):
                for user_id, *scores in rows:
                    difference = _difference(UserId(user_id), scores)
                    report.note(difference)
                    hopeless += abs(scores[0] or 0) > MAX_SCORE
        if fence.rules.windows:
            async with conn.cursor(name="minutes") as cursor:
                await cursor.execute(_of_season(_COMPARE_MINUTES, fence))
                while rows := await cursor.fetchmany(_FETCH):
                    for user_id, expected, found in rows:
                        report.note(Difference(kind_of("minute", expected, found), UserId(user_id), expected, found))
    return hopeless


def _difference(user_id: UserId, scores: Sequence[int | Decimal | None]) -> Difference:
    """`scores`: by ledger and standing, of all time and of each window."""
    told = [None if score is None else int(score) for score in scores]
    pairs = list(zip(BOARDS, told[::2], told[1::2], strict=False))
    differing = [pair for pair in pairs if pair[1] != pair[2]]
    window, expected, found = (differing or pairs)[0]
    return Difference(kind_of("standing", expected, found), user_id, expected, found, window)


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
        if fence.rules.windows:
            await conn.execute(_of_season(_REPAIR_MINUTES, fence))
        cursor = await conn.execute(repair(fence))
        repaired.extend(Standing(*row) for row in await cursor.fetchall())
        return repaired

    async with pool.connection() as conn, conn.transaction():
        await amend(conn, projection, season_id, change)
    return len(repaired)


def comparison(fence: seasons.Fence) -> sql.Composed:
    """The statement that compares a season's standings with its ledger."""
    return _of_season(_COMPARE, fence)


def repair(fence: seasons.Fence) -> sql.Composed:
    """The statement that makes a season's standings what its ledger comes to; the season is locked."""
    return _of_season(_REPAIR, fence)


def totals(rules: Rules, places: Iterable[Place]) -> str:
    """What the events come to, as standings have it: when a plain sum was reached, nobody asks."""
    if rules.plain and rules.aggregation == "sum":
        return "sum(score) as score, null::timestamptz as reached_at, null::bigint as reached_by"
    return aggregates(rules, places)


def _of_season(query: str, fence: seasons.Fence) -> sql.Composed:
    """One of these for this season. Values as literals: DECLARE takes no parameters."""
    rules = fence.rules
    places = places_of(rules)
    columns = list(chain(*map(names, places)))
    compared = [name for name in columns if not (rules.plain and name == "reached_at")]
    windows = array_of(name for place in places[1:] for name in names(place, "ledger."))
    parts = {
        "aggregates": totals(rules, places),
        "of_minute": aggregates(rules, (ALL_TIME,), of_minutes=True),
        "minute": MINUTE.format(at=MOMENT) if rules.windows else "null::timestamptz",
        "within": WITHIN.format(minute="minute", as_of=_AS_OF) if rules.windows else "0",
        "settled": _SETTLED if rules.windows else _NOT_ERASED,
        "player": f"coalesce(ledger.user_id, {'kept' if query in _OF_MINUTES else 'standing'}.user_id)",
        "shown": ", ".join(
            f"{held('row', value, place)} as {value}{place.suffix}" for place in places for value in VALUES
        ),
        "pairs": ", ".join(f"ledger.score{place.suffix}, standing.score{place.suffix}" for place in places),
        "padding": ", null::bigint" * (2 * len(places) - 2),
        "told": ", ".join([*names(ALL_TIME, "ledger."), windows if rules.windows else "null"]),
        "of_ledger": ", ".join(f"ledger.{name}" for name in compared),
        "of_standing": ", ".join(f"standing.{name}" for name in compared),
    }
    for name, text in parts.items():
        query = query.replace(f"{{{name}}}", text)
    return sql.SQL(query).format(season_id=sql.Literal(fence.season_id), epoch=sql.Literal(fence.epoch))
