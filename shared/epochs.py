"""Epochs of seasons that are over: noted as they end, under the season's lock, and what is told of them. Every
statement takes its caller's connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from shared import rewards
from shared.errors import ConflictError
from shared.postgres import Connection
from shared.scores import Rules, SeasonId

Reason: TypeAlias = Literal["reset", "schedule", "restart", "close", "end"]
"""Why an epoch takes no more scores: DELETE, the season's schedule, other rules, POST …/close, its endsAt."""

UNSEALED: Final = "sealed_at is null and (archived or wanted)"
"""Of a row of season_epochs: somebody waits for its final ranks. As the index has it."""

UNPURGED: Final = "next_began_at is not null and purged_at is null and not (archived or wanted)"
"""Of a row of season_epochs: its ledger rows and final ranks may go. As the index has it."""

_WANTED: Final = """(%(told)s and exists (
  select from reward_hooks as hook where hook.season_id = season.season_id))"""
"""Whether somebody but the archive waits for the final ranks of an epoch that ends (`shared.rewards`), in SQL over its
row of seasons. `shared.deliveries` clears season_epochs.wanted once they are written down."""

_MOST_MISSED: Final = 100
_REMEMBERED: Final = 1000
"""Epochs of a season that are remembered although nothing of them is left."""

_BEGAN: Final = """
  coalesce(
    (select before.next_began_at from season_epochs as before
     where before.season_id = season.season_id and before.epoch = season.epoch - 1),
    case when season.epoch = 1 then season.created_at end)"""

# An epoch that was closed before it was reset ended when it was closed; it is archived if either asked for that.
#
# Epochs between the last one that was noted and this one were ended by processes of an earlier build: noted as well,
# or their rows would never be purged (`shared.epoch_purges`).
_END: Final = f"""
insert into season_epochs as ended (season_id, epoch, aggregation, sort_order, windows, tie_break, began_at, ended_at,
  next_began_at, reason, archived, wanted)
select season.season_id, noted.epoch, aggregation, sort_order, windows, tie_break,
  case when noted.epoch = season.epoch then {_BEGAN} end, clock_timestamp(),
  case when noted.epoch < season.epoch or %(followed)s then clock_timestamp() end, %(reason)s,
  noted.epoch = season.epoch and %(archived)s, noted.epoch = season.epoch and {_WANTED}
from seasons as season, lateral (
  select max(known.epoch) + 1 as epoch from season_epochs as known where known.season_id = season.season_id
) as missed, lateral generate_series(
  least(season.epoch, greatest(coalesce(missed.epoch, season.epoch), season.epoch - {_MOST_MISSED})), season.epoch
) as noted (epoch)
where season.season_id = %(season_id)s
on conflict (season_id, epoch) do update
set archived = ended.archived or excluded.archived,
  wanted = ended.wanted or (excluded.wanted and ended.sealed_at is null),
  next_began_at = coalesce(ended.next_began_at, excluded.next_began_at)
"""  # noqa: S608 - constants

_FORGET: Final = """
delete from season_epochs
where season_id = %s and epoch = (select epoch from seasons where season_id = %s) - %s and purged_at is not null
  and expired_at is null
"""

_REOPEN: Final = """
delete from season_epochs as ended using seasons as season
where season.season_id = %s and season.closed_at is null and ended.season_id = season.season_id
  and ended.epoch = season.epoch and ended.reason = 'end' and ended.sealed_at is null
"""

_IS_SEALED: Final = """
select exists (
  select from season_epochs as ended join seasons as season using (season_id, epoch)
  where season_id = %s and season.closed_at is null and ended.reason = 'end' and ended.sealed_at is not null)
"""

# Open, and without a score.
_IS_UNTOUCHED: Final = """
select season.closed_at is null
  and not exists (
    select from season_epochs as ended where ended.season_id = season.season_id and ended.epoch = season.epoch)
  and not exists (
    select from score_events as event where event.season_id = season.season_id and event.epoch = season.epoch)
from seasons as season where season_id = %s
"""

# Its season's end lies before its beginning, where that is known, and no score was on its way as that was set.
_WAS_NEVER_OPEN: Final = f"""
select season.ends_at <= {_BEGAN}
  and not exists (
    select from score_events as event where event.season_id = season.season_id and event.epoch = season.epoch)
from seasons as season where season_id = %s
"""  # noqa: S608 - constants

_COLUMNS: Final = """
epoch, aggregation, sort_order, windows, tie_break, began_at, ended_at, reason, archived, sealed_at, expired_at, players
"""

_FIND: Final = f"select {_COLUMNS} from season_epochs where season_id = %s and epoch = %s"  # noqa: S608 - constants

PAGE: Final = f"""
select {_COLUMNS} from season_epochs where season_id = %s and epoch < %s order by epoch desc limit %s
"""  # noqa: S608 - constants

_BEGINNING: Final = f"select {_BEGAN} from seasons as season where season_id = %s"  # noqa: S608 - constants


class Epoch(NamedTuple):
    """An epoch that takes no more scores. `began_at` None: from before that was noted. `players`: of its final ranks,
    once it is sealed."""

    epoch: int
    rules: Rules
    began_at: dt.datetime | None
    ended_at: dt.datetime
    reason: Reason
    archived: bool
    sealed_at: dt.datetime | None
    expired_at: dt.datetime | None
    players: int


async def end(
    conn: Connection, season_id: SeasonId, reason: Reason, *, archived: bool = False, followed: bool = False
) -> None:
    """Note that the locked season's epoch takes no more scores; noted before, it stays as it was noted. `archived`: it
    stays readable. `followed`: the next one begins in the same transaction.

    Who is told of final ranks is told of this one's, but not where other rules end it, or where it was never open.
    """
    told = reason != "restart" and not await was_never_open(conn, season_id)
    parameters = {"season_id": season_id, "reason": reason, "archived": archived, "followed": followed, "told": told}
    await conn.execute(_END, parameters)
    if told:
        await rewards.note(conn, season_id)
    if followed:
        await rewards.note_next_epoch(conn, season_id)
        await conn.execute(_FORGET, (season_id, season_id, _REMEMBERED))


async def reopen(conn: Connection, season_id: SeasonId) -> None:
    """The locked season's endsAt lies in the future again: its epoch has not ended after all.

    Raises ConflictError where its final ranks were told already. One that was closed stays so.
    """
    await conn.execute(_REOPEN, (season_id,))
    row = await (await conn.execute(_IS_SEALED, (season_id,))).fetchone()
    assert row is not None
    if row[0]:
        raise ConflictError(
            f"season {season_id} has ended and its final ranks are settled; endsAt can't be later any more, reset it "
            "with DELETE to go on",
            code="epoch_sealed",
        )


async def is_untouched(conn: Connection, season_id: SeasonId) -> bool:
    """Whether the locked season's epoch is open and has no score."""
    row = await (await conn.execute(_IS_UNTOUCHED, (season_id,))).fetchone()
    assert row is not None
    return bool(row[0])


async def was_never_open(conn: Connection, season_id: SeasonId) -> bool:
    """Whether the season's epoch began after the season's endsAt, and has no score: there is nothing to tell of
    it, and nothing that a later endsAt would make wrong. Exact once what was on its way is settled."""
    row = await (await conn.execute(_WAS_NEVER_OPEN, (season_id,))).fetchone()
    assert row is not None
    return bool(row[0])


async def find(conn: Connection, season_id: SeasonId, epoch: int) -> Epoch | None:
    """What was noted of an epoch; None = nothing."""
    row = await (await conn.execute(_FIND, (season_id, epoch))).fetchone()
    return None if row is None else _epoch(row)


async def page(conn: Connection, season_id: SeasonId, before: int, limit: int) -> list[Epoch]:
    """Epochs before that one, the newest first."""
    return [_epoch(row) for row in await (await conn.execute(PAGE, (season_id, before, limit))).fetchall()]


async def began_at(conn: Connection, season_id: SeasonId) -> dt.datetime | None:
    """When the season's current epoch began; None = from before that was noted."""
    row = await (await conn.execute(_BEGINNING, (season_id,))).fetchone()
    return None if row is None else row[0]


def _epoch(row: Sequence[Any]) -> Epoch:
    epoch, aggregation, order, windows, tie_break, *others = row
    return Epoch(epoch, Rules(aggregation, order, windows, tie_break), *others)
