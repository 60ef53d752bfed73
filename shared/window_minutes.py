"""Scores that leave windows as they age. Each minute of a player is kept in `window_buckets` for as long as it is in a
window, and says when it next leaves one.

Everything but the looks for what is due runs under the locks of the seasons, which carry their new tokens: what time it
is for a season, its token says (`shared.aggregates.AS_OF`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from shared.aggregates import (
    AS_OF,
    IN_WINDOWS,
    LEAVES,
    WITHIN,
    aggregates,
    array_of,
    columns_of,
    held,
    microseconds,
    names,
)
from shared.postgres import Connection
from shared.scores import Rules, SeasonId, UserId
from shared.seasons import Fence
from shared.standings import Standing

DUE_SEASONS: Final = """
select distinct season_id from (
  select season_id from window_buckets where leaves_at <= now() and season_id <> all(%s) order by leaves_at limit %s
) as due
"""

# By the clock of now, not of the transaction's beginning: a batch that never committed may have been later than that.
PLAYERS_DUE: Final = """
select distinct bucket.user_id
from window_buckets as bucket
join seasons as season on season.season_id = bucket.season_id and season.epoch = bucket.epoch
where bucket.season_id = %s and bucket.user_id = any(%s) and bucket.leaves_at <= clock_timestamp()
"""

_MINUTES_HELD: Final = [
    f"{at} - mod({at}, 60000000)" for at in (held("standing", "reached_at", place) for place in IN_WINDOWS)
]
_ANEW: Final = array_of(chain(*(names(place, "anew.") for place in IN_WINDOWS)))

_NOW_WITHIN: Final = WITHIN.format(minute="bucket.minute", as_of=AS_OF)

# Of an epoch that a reset ended nothing is shown any more. Where a minute's score is not the one that counts in any of
# its player's windows, nothing changes; not told by the event, which may have been followed by a better one in the same
# minute when that had left a window already.
CLAIM: Final = f"""
with due as materialized (
  select bucket.season_id, bucket.epoch, bucket.user_id, bucket.minute, {_NOW_WITHIN} as within,
    season.epoch = bucket.epoch and (season.aggregation = 'sum' or exists (
      select from standings as standing
      where standing.season_id = bucket.season_id and standing.epoch = bucket.epoch
        and standing.user_id = bucket.user_id and {microseconds("bucket.minute")} in (
          {", ".join(_MINUTES_HELD)})
    )) as counts, season.epoch = bucket.epoch as current
  from window_buckets as bucket
  join seasons as season on season.season_id = bucket.season_id
  where bucket.season_id = any(%s) and bucket.leaves_at <= now()
  order by bucket.leaves_at limit %s for update of bucket skip locked
), gone as (
  delete from window_buckets as bucket using due
  where (bucket.season_id, bucket.epoch, bucket.user_id, bucket.minute)
    = (due.season_id, due.epoch, due.user_id, due.minute) and (due.within = 0 or not due.current)
), moved as (
  update window_buckets as bucket set leaves_at = {LEAVES.format(minute="bucket.minute", within="due.within")}
  from due
  where (bucket.season_id, bucket.epoch, bucket.user_id, bucket.minute)
    = (due.season_id, due.epoch, due.user_id, due.minute) and due.within > 0 and due.current
)
select season_id, user_id, count(*), bool_or(counts) from due group by season_id, user_id
"""  # noqa: S608 - constants

# The windows of players, from their minutes. Who has one has a standing; by way of an insert each is found by its key,
# whatever the planner thinks of their number. Those that come to the same are written and sent too: a sweep that died
# may have shown what came to something else.
_RENEW: Final = f"""
insert into standings as standing (season_id, epoch, user_id, token, windows)
select season.season_id, season.epoch, player.user_id, season.token, {_ANEW}
from unnest(string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f')) as player (season_id, user_id)
join seasons as season on season.season_id = player.season_id
cross join lateral (
  select {{aggregates}} from (
    select bucket.score, bucket.reached_at as at, bucket.reached_by as id, {_NOW_WITHIN} as within
    from window_buckets as bucket
    where bucket.season_id = season.season_id and bucket.epoch = season.epoch and bucket.user_id = player.user_id
  ) as kept
) as anew
order by 1, 3
on conflict (season_id, epoch, user_id) do update set token = excluded.token, windows = excluded.windows
returning {{columns}}
"""  # noqa: S608 - constants

_SEPARATOR: Final = "\x1f"


class Left(NamedTuple):
    """What left windows: so many minutes of players. `standings`: those that may have changed by it."""

    minutes: int
    standings: list[Standing]


# Never prepared: plans that are made once may be made while the table is new and small, and read all of it for ever.
async def seasons_due(conn: Connection, paused: Sequence[SeasonId], limit: int) -> list[SeasonId]:
    """Seasons of the `limit` minutes that were the first to become due, but for those paused."""
    cursor = await conn.execute(DUE_SEASONS, (list(paused), limit), prepare=False)
    return [row[0] for row in await cursor.fetchall()]


async def players_due(conn: Connection, season_id: SeasonId, user_ids: Sequence[UserId]) -> set[UserId]:
    """Which of the players have a minute that has not left a window yet, although it is due to."""
    cursor = await conn.execute(PLAYERS_DUE, (season_id, list(user_ids)))
    return {row[0] for row in await cursor.fetchall()}


async def leave(conn: Connection, fences: Sequence[Fence], limit: int) -> Left:
    """Let up to `limit` minutes of the locked seasons leave the windows that they are due to leave."""
    cursor = await conn.execute(CLAIM, ([fence.season_id for fence in fences], limit), prepare=False)
    due = await cursor.fetchall()
    rules = {fence.season_id: fence.rules for fence in fences}
    players: defaultdict[Rules, list[tuple[SeasonId, UserId]]] = defaultdict(list)
    for season_id, user_id, _, counts in due:
        if counts:
            players[rules[season_id]].append((season_id, user_id))
    changed: list[Standing] = []
    for kind, some in players.items():
        changed += await renew(conn, kind, some)
    return Left(sum(row[2] for row in due), changed)


async def renew(conn: Connection, rules: Rules, players: Sequence[tuple[SeasonId, UserId]]) -> list[Standing]:
    """Compute the windows of players from their minutes, in seasons with these rules; returns them."""
    season_ids, user_ids = zip(*players, strict=True)
    names_of_both = _SEPARATOR.join(season_ids), _SEPARATOR.join(user_ids)
    cursor = await conn.execute(renewing(rules), names_of_both, prepare=False)
    return [Standing(*row) for row in await cursor.fetchall()]


@lru_cache
def renewing(rules: Rules) -> str:
    """The statement of `renew`."""
    return _RENEW.format(aggregates=aggregates(rules, IN_WINDOWS), columns=columns_of(rules))
