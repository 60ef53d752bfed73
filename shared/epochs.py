"""Epochs of seasons that are over: noted as they end, under the season's lock. Every statement takes its caller's
connection."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from shared import rewards
from shared.postgres import Connection
from shared.scores import SeasonId

Reason: TypeAlias = Literal["reset", "schedule", "restart", "close", "end"]
"""Why an epoch takes no more scores: DELETE, the season's schedule, other rules, POST …/close, its endsAt."""

# An epoch that was closed before it was reset ended when it was closed; it is archived if either asked for that.
_END: Final = """
insert into season_epochs as ended (season_id, epoch, aggregation, sort_order, windows, tie_break, began_at, ended_at,
  reason, archived)
select season_id, epoch, aggregation, sort_order, windows, tie_break,
  coalesce(
    (select max(before.ended_at) from season_epochs as before
     where before.season_id = seasons.season_id and before.epoch = seasons.epoch - 1),
    case when epoch = 1 then created_at end),
  clock_timestamp(), %s, %s
from seasons where season_id = %s
on conflict (season_id, epoch) do update set archived = ended.archived or excluded.archived
"""


async def end(conn: Connection, season_id: SeasonId, reason: Reason, *, archived: bool = False) -> None:
    """Note that the locked season's epoch is over; `archived`: it stays readable."""
    await conn.execute(_END, (reason, archived, season_id))
    if reason != "restart":
        await rewards.note(conn, season_id)
