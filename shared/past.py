"""Which epoch a season was in at a moment, by which rules, and from which snapshot its board of then is made.

Questions are asked in one transaction that reads one state of the database (`reading`), so that no reset, purge or
erasure comes between them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from shared.errors import EpochGoneError, InvalidRequestError
from shared.postgres import Connection
from shared.scores import PLAIN, Rules, SeasonId
from shared.settling import settle

LONG_AGO: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""Before all scores."""

_LAST_ID: Final = 2**63 - 1

_IS_AHEAD: Final = "select %s > clock_timestamp()"

# The first epoch that was left after the moment, else the current one. When it began is noted with the end of the one
# before; of epochs from before that was noted their first score says it, and where there is none the season's token,
# which the reset gave it.
EPOCH: Final = """
select found.epoch, found.aggregation, found.sort_order, found.windows, found.tie_break, found.told,
  season.created_at > %(moment)s as unknown,
  case when found.epoch = 1 then season.created_at else coalesce(
    (select coalesce(before.next_began_at, before.ended_at) from season_epochs as before
     where before.season_id = season.season_id and before.epoch = found.epoch - 1),
    found.began_at,
    (select event.created_at from score_events as event
     where event.season_id = season.season_id and event.epoch = found.epoch order by event.id limit 1),
    timestamptz 'epoch' + season.token * interval '1 microsecond'
  ) end as began_at
from seasons as season cross join lateral (
  (select epoch, aggregation, sort_order, windows, tie_break,
     case when archived then 'archived' else reason end as told, began_at
   from season_epochs
   where season_id = season.season_id and epoch < season.epoch and coalesce(next_began_at, ended_at) > %(moment)s
   order by epoch limit 1)
  union all
  select season.epoch, season.aggregation, season.sort_order, season.windows, season.tie_break, 'current', null
  order by epoch limit 1
) as found
where season.season_id = %(season_id)s
"""

# The last snapshot until the moment, and up to which id the next one says that scores of until then reach.
SNAPSHOT: Final = """
select taken.*, following.high_id
from (values (1)) as one
left join lateral (
  select snapshot_id, as_of, low_id, players, unsettled, erased from snapshots
  where season_id = %(season_id)s and epoch = %(epoch)s and as_of <= %(moment)s order by as_of desc limit 1
) as taken on true
left join lateral (
  select high_id from snapshots
  where season_id = %(season_id)s and epoch = %(epoch)s and as_of > %(moment)s order by as_of limit 1
) as following on true
"""


class Snapshot(NamedTuple):
    """Standings as of a moment. `low_id`: scores of later have higher ids. `unsettled`: whose standings may have become
    others; `erased`: places of players who are no longer in it. As it stands here: none, and nobody in it."""

    snapshot_id: int = 0
    as_of: dt.datetime = LONG_AGO
    low_id: int = 0
    players: int = 0
    unsettled: tuple[str, ...] = ()
    erased: tuple[int, ...] = ()


class Then(NamedTuple):
    """A season at a moment. Scores until then that are not in the snapshot have ids up to `high_id`."""

    season_id: SeasonId
    moment: dt.datetime
    epoch: int
    rules: Rules = PLAIN
    snapshot: Snapshot = Snapshot()
    high_id: int = _LAST_ID

    def parameters(self) -> dict[str, Any]:
        """What the statements of `shared.past_boards` are given."""
        snapshot = self.snapshot
        return {
            "season_id": self.season_id,
            "epoch": self.epoch,
            "moment": self.moment,
            "hidden_at": self.moment,
            "snapshot_id": snapshot.snapshot_id,
            "since": snapshot.as_of,
            "low_id": snapshot.low_id,
            "high_id": self.high_id,
            "players": snapshot.players,
            "unsettled": list(snapshot.unsettled),
            "erased": list(snapshot.erased),
        }


@asynccontextmanager
async def reading(conn: Connection, *moments: dt.datetime) -> AsyncIterator[None]:
    """A transaction whose questions about these moments get the answers that they will always get.

    Raises InvalidRequestError for a moment that is still to come. Waits, for milliseconds, where scores that were
    accepted until then are not committed yet.
    """
    last = max(moments)
    row = await (await conn.execute(_IS_AHEAD, (last,))).fetchone()
    assert row is not None
    if row[0]:
        raise InvalidRequestError(
            f"{last.isoformat()} is still to come: take a moment until now", code="invalid_moment"
        )
    await settle(conn, last)
    async with conn.transaction():
        await conn.execute("set transaction isolation level repeatable read, read only")
        yield


async def at(conn: Connection, season_id: SeasonId, moment: dt.datetime) -> Then | None:
    """The season at that moment; None where it was not there yet, or had no scores that could count.

    Raises EpochGoneError where the ledger no longer has the scores of its epoch of then.
    """
    asked = {"season_id": season_id, "moment": moment}
    row = await (await conn.execute(EPOCH, asked)).fetchone()
    if row is None:
        return None
    epoch, *rules, told, unknown, began_at = row
    if unknown or told == "restart":  # one that got other rules had no scores
        return None
    if told not in ("current", "archived") or (began_at is not None and began_at > moment):
        raise EpochGoneError(
            f"what season {season_id} was at that moment is gone: it was reset since then, and that epoch not archived"
        )
    return await from_snapshot(conn, Then(season_id, moment, epoch, Rules(*rules)))


async def from_snapshot(conn: Connection, then: Then) -> Then:
    """The same with the last snapshot until its moment."""
    asked = {"season_id": then.season_id, "epoch": then.epoch, "moment": then.moment}
    found = await (await conn.execute(SNAPSHOT, asked)).fetchone()
    assert found is not None
    *taken, high_id = found
    return then._replace(
        snapshot=Snapshot() if taken[0] is None else Snapshot(*taken),
        high_id=_LAST_ID if high_id is None else high_id,
    )
