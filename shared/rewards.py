"""Who is told of the final ranks of a season's epochs, and of which epochs still. Every statement takes its caller's
connection; all of it under the season's lock."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from shared.postgres import Connection
from shared.scores import SeasonId

_PUT: Final = """
insert into reward_hooks (season_id, url, top) values (%s, %s, %s)
on conflict (season_id) do update set url = excluded.url, top = excluded.top
"""

_DELETE: Final = "delete from reward_hooks where season_id = %s"

# Its endsAt was moved: it has not ended after all.
_REOPENED: Final = """
delete from epoch_hooks as hook using seasons as season
where season.season_id = %s and hook.season_id = season.season_id and hook.epoch = season.epoch
  and not exists (
    select from season_epochs as ended where ended.season_id = hook.season_id and ended.epoch = hook.epoch)
"""

# Also at the reset behind an epoch that was closed, or came to its end: that it is told of once, deliveries see to.
_NOTE: Final = """
insert into epoch_hooks (season_id, epoch, url, top)
select season_id, epoch, url, top from seasons join reward_hooks using (season_id)
where season_id = %s
on conflict (season_id, epoch) do nothing
"""

_PUT_END: Final = """
insert into season_ends (season_id, due_at) values (%s, %s)
on conflict (season_id) do update set due_at = excluded.due_at
"""

_END_PASSED: Final = "delete from season_ends where season_id = %s and due_at <= clock_timestamp()"

_DELETE_END: Final = "delete from season_ends where season_id = %s"

# now(): see `shared.reset_schedules`.
ENDED: Final = """
select season_id from season_ends where due_at <= now() and season_id <> all(%s) order by due_at limit %s
"""

_HAS_ENDED: Final = """
select coalesce(archive, false) from season_ends left join reset_schedules using (season_id)
where season_id = %s and due_at <= clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Hook:
    """`top`: of how many of the best it is told."""

    url: str
    top: int


async def put(conn: Connection, season_id: SeasonId, hook: Hook | None) -> None:
    """Set who is told of the locked season, None: nobody. Of epochs that are over it stays who it was as they ended."""
    if hook is None:
        await conn.execute(_DELETE, (season_id,))
    else:
        await conn.execute(_PUT, (season_id, hook.url, hook.top))
    await conn.execute(_REOPENED, (season_id,))


async def note(conn: Connection, season_id: SeasonId) -> None:
    """The locked season's epoch is over: its final ranks are to be told of, where the season has somebody."""
    await conn.execute(_NOTE, (season_id,))


async def note_next_epoch(conn: Connection, season_id: SeasonId) -> None:
    """The locked season's next epoch begins: an end that has come was that of the one before, noted or not."""
    await conn.execute(_END_PASSED, (season_id,))


async def put_end(conn: Connection, season_id: SeasonId, ends_at: dt.datetime | None) -> None:
    """Have the locked season's end noted as it comes, None: it need not be."""
    if ends_at is None:
        await conn.execute(_DELETE_END, (season_id,))
    else:
        await conn.execute(_PUT_END, (season_id, ends_at))


async def ended(conn: Connection, left_alone: list[SeasonId], limit: int) -> list[SeasonId]:
    """Seasons whose end has come and is not noted, the longest ago first, but for those `left_alone`."""
    return [row[0] for row in await (await conn.execute(ENDED, (left_alone, limit))).fetchall()]


async def archives_at_end(conn: Connection, season_id: SeasonId) -> bool | None:
    """Whether the locked season's epoch, which has come to its end, stays readable; None where somebody else has seen
    to it."""
    row = await (await conn.execute(_HAS_ENDED, (season_id,))).fetchone()
    return None if row is None else bool(row[0])
