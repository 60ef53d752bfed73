"""Sealing: the final ranks of an epoch that ended, computed from the ledger once all is in it that was accepted.

What is waited for, and why the ledger is complete then, is argued in docs/reliability.md. All of one sealing is one
transaction of its caller's; it holds the season's lock for its last two statements only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final, NamedTuple

from psycopg import sql

from shared import erasing
from shared.aggregates import ALL_TIME
from shared.epochs import UNSEALED
from shared.ledger_check import EVENTS, NO_NESTED_LOOPS, totals
from shared.postgres import Connection
from shared.scores import MAX_SCORE, Rules, SeasonId

_MOST: Final = 10_000

# The clock is asked behind the snapshot: whoever begins after that moment sees that these epochs are over.
UNSEALED_EPOCHS: Final = f"""
select season_id, epoch, ended_at, clock_timestamp() from season_epochs
where {UNSEALED} order by season_id, epoch limit {_MOST}
"""  # noqa: S608 - constants

# One pass over all that is pending, whatever the statistics say, for any number of epochs.
QUIET: Final = """
select season_id, epoch from unnest(%s::text[], %s::int[]) as ended (season_id, epoch)
where not exists (
  select from outbox
  where outbox.status = 'pending' and outbox.season_id = ended.season_id and outbox.epoch = ended.epoch)
"""

# Any number that no other program on the database locks. Two epochs of the same hash are not sealed at once, that is
# all. Not the row of season_epochs: a reset writes to it, and would wait for as long as a sealing takes.
_LOCK: Final = f"select pg_try_advisory_xact_lock(1819239026, hashtext(%s || ' ' || %s)) and {erasing.KEEPS_OFF}"

_CLAIM: Final = f"""
select aggregation, sort_order, ended.windows, tie_break, clock_timestamp(), season.patch_floor
from season_epochs as ended join (select season_id, patch_floor from seasons) as season using (season_id)
where season_id = %s and epoch = %s and {UNSEALED}
"""  # noqa: S608 - constants

# In one snapshot with what is pending: what a retry makes pending meanwhile must not be missing. So does what waits for
# an erasure: scores of that player may have come after the wish. What was never folded may add up to more than a board
# holds.
_RANK: Final = f"""
with waits as materialized (
  select exists (
    select from outbox where status = 'pending' and season_id = {{season_id}} and epoch = {{epoch}})
    or {erasing.in_season("{season_id}")} as any_pending
), ledger as (
  select user_id, greatest(-{MAX_SCORE}, least({MAX_SCORE}, score))::bigint as score, reached_at, reached_by
  from (select user_id, {{totals}} from ({EVENTS}) as event group by user_id) as total
  where not exists (
    select from hidden_players as hidden
    where hidden.season_id = {{season_id}} and hidden.user_id = total.user_id)
), final as (
  insert into final_ranks (season_id, epoch, rank, user_id, score)
  select {{season_id}}, {{epoch}}, row_number() over (order by {{best_first}}), user_id, score
  from ledger where not (select any_pending from waits)
  order by 3
  returning 1
)
select any_pending, (select count(*) from final) from waits
"""  # noqa: S608 - constants

_PATCH_FLOOR: Final = "select patch_floor from seasons where season_id = %s for share"

_NOTE: Final = f"""
update season_epochs set sealed_at = %s, players = %s where season_id = %s and epoch = %s and {UNSEALED}
"""  # noqa: S608 - constants


class Unsealed(NamedTuple):
    """An epoch whose final ranks somebody waits for. It may be reopened and end again: `ended_at` tells them apart."""

    season_id: SeasonId
    epoch: int
    ended_at: dt.datetime


class Claimed(NamedTuple):
    """An epoch that this transaction alone may seal. `patch_floor`: changes when a player of its season is erased."""

    season_id: SeasonId
    epoch: int
    rules: Rules
    at: dt.datetime
    patch_floor: int


class ChangedMeanwhileError(Exception):
    """A player was erased, or the epoch reopened, while its ranks were computed; they must not be committed."""


async def unsealed(conn: Connection) -> tuple[list[Unsealed], dt.datetime | None]:
    """Epochs to seal, and a moment from which on nobody can begin to add to them; None where there are none."""
    rows = await (await conn.execute(UNSEALED_EPOCHS)).fetchall()
    return [Unsealed(*row[:3]) for row in rows], rows[0][3] if rows else None


async def quiet(conn: Connection, found: Sequence[Unsealed]) -> list[Unsealed]:
    """Those of the epochs of which no event is pending."""
    asked = [each.season_id for each in found], [each.epoch for each in found]
    async with conn.transaction():
        await conn.execute(NO_NESTED_LOOPS)
        rows = set(await (await conn.execute(QUIET, asked)).fetchall())
    return [each for each in found if (each.season_id, each.epoch) in rows]


async def claim(conn: Connection, season_id: SeasonId, epoch: int) -> Claimed | None:
    """Begin to seal an epoch, and keep off erasures from its season until the transaction ends, which would have it
    begin anew. None where another transaction seals it, or did, or erases somebody at this moment."""
    row = await (await conn.execute(_LOCK, (season_id, str(epoch), season_id))).fetchone()
    if row is None or not row[0]:
        return None
    # A statement of its own: it sees what who held the lock before has committed.
    row = await (await conn.execute(_CLAIM, (season_id, epoch))).fetchone()
    return None if row is None else Claimed(season_id, epoch, Rules(*row[:4]), *row[4:])


async def rank(conn: Connection, claimed: Claimed) -> int | None:
    """Write the final ranks; returns of how many players. None where an event is pending again, or a player is being
    erased: nothing is written."""
    await conn.execute(NO_NESTED_LOOPS)
    row = await (await conn.execute(ranking(claimed))).fetchone()
    assert row is not None
    return None if row[0] else int(row[1])


async def note(conn: Connection, claimed: Claimed, players: int) -> None:
    """Say that the epoch is sealed. Raises ChangedMeanwhileError; the transaction must be rolled back then."""
    season_id, epoch, _, at, patch_floor = claimed
    # From here to the commit nobody is erased: who is erased later is deleted from what we wrote.
    row = await (await conn.execute(_PATCH_FLOOR, (season_id,))).fetchone()
    if row is None or row[0] != patch_floor:
        raise ChangedMeanwhileError(f"a player of season {season_id} was erased meanwhile")
    if (await conn.execute(_NOTE, (at, players, season_id, epoch))).rowcount == 0:
        raise ChangedMeanwhileError(f"epoch {epoch} of season {season_id} did not end after all")


def ranking(claimed: Claimed) -> sql.Composed:
    """The statement that writes the final ranks."""
    parts = {
        "totals": totals(claimed.rules._replace(windows=False), (ALL_TIME,)),
        "minute": "null::timestamptz",
        "best_first": best_first(claimed.rules),
    }
    query = _RANK
    for name, text in parts.items():
        query = query.replace(f"{{{name}}}", text)
    return sql.SQL(query).format(season_id=sql.Literal(claimed.season_id), epoch=sql.Literal(claimed.epoch))


def best_first(rules: Rules) -> str:
    """The order of a board, over rows of user_id, score, reached_at and reached_by."""
    way = "desc" if rules.order == "desc" else "asc"
    return f"score {way}, " + ("reached_at, reached_by" if rules.tie_break == "earliest" else f"user_id {way}")
