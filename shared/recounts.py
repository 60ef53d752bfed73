"""Counting players anew from the ledger, once something of what they sent counts no more.

Runs under the season's lock, with its new token, in the transaction that takes it away. What other batches have claimed
is pending in what this one sees, and is folded on top of it later.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Final

from shared.aggregates import (
    ALL_TIME,
    AS_OF,
    FULL_COLUMNS,
    LEAVES,
    MINUTE,
    MOMENT,
    STANDS,
    WITHIN,
    aggregates,
    array_of,
    names,
    places_of,
)
from shared.overflows import REASON, not_fitting
from shared.player_entries import of_player
from shared.postgres import REFUSED, Connection
from shared.scores import Rules, SeasonId, UserId
from shared.standings import Standing

# What counts, as in `shared.ledger_check`, asked of each event by its key (offset 0: not as a join, for which the
# planner may read all that is pending).
_COUNTS: Final = f"""{STANDS} and not exists (
    select from outbox where outbox.id = event.id and outbox.status in ('pending', 'failed') offset 0)"""

_OF_PLAYER: Final = of_player("event", season_id="season.season_id", user_id="player.user_id")

_ENTRIES: Final = f"""
  select event.delta as score, {MOMENT} as at, event.id, {{minute}} as minute
  from score_events as event
  where {_OF_PLAYER} and event.epoch = season.epoch and {_COUNTS}"""  # noqa: S608 - constants

_ONE: Final = "from seasons as season, (select %s::text) as player (user_id)"

# Whoever remains without a score stays as a tombstone, and is sent as one.
_RECOUNT: Final = f"""
insert into standings as standing (season_id, epoch, user_id, score, reached_at, reached_by, windows, token)
select season.season_id, season.epoch, player.user_id, {{told}}, season.token
{_ONE} cross join lateral (
  select {{aggregates}} from (select entry.*, {{within}} as within from ({_ENTRIES}) as entry) as event
) as ledger
where season.season_id = %s
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by,
  windows = excluded.windows, token = excluded.token
returning {FULL_COLUMNS}
"""  # noqa: S608 - constants

_FORGET_MINUTES: Final = """
delete from window_buckets as bucket using seasons as season
where bucket.season_id = season.season_id and bucket.epoch = season.epoch and bucket.user_id = %s
  and season.season_id = %s
"""

_RECOUNT_MINUTES: Final = f"""
insert into window_buckets (season_id, epoch, user_id, minute, score, reached_at, reached_by, leaves_at)
select season_id, epoch, user_id, minute, {{of_minute}}, {LEAVES.format(minute="minute", within="within")}
from (
  select season.season_id, season.epoch, player.user_id, entry.*, {{within}} as within
  {_ONE} cross join lateral ({_ENTRIES}) as entry
  where season.season_id = %s
) as event
where within > 0 group by season_id, epoch, user_id, minute, within
"""  # noqa: S608 - constants

_COUNTED: Final = f"""
select entry.id, entry.score
{_ONE} cross join lateral ({_ENTRIES.format(minute="null::timestamptz")}) as entry
where season.season_id = %s order by entry.id
"""

_GIVE_UP: Final = (
    """
    update score_events as entry set discarded_at = clock_timestamp() from seasons as season
    where season.season_id = %(season_id)s and entry.season_id = season.season_id and entry.epoch = season.epoch
      and entry.id = any(%(beyond)s)
    """,
    """
    update outbox set status = 'discarded', last_error = %(reason)s, processed_at = clock_timestamp()
    where id = any(%(beyond)s)
    """,
)


async def recount(conn: Connection, season_id: SeasonId, rules: Rules, user_id: UserId) -> Standing:
    """Make the player's standing, and minutes where there are windows, what the ledger says; returns it, to be shown.

    Takes as long as reading all that the player has sent in the season. Raises psycopg.DataError or IntegrityError when
    the sum leaves ±(2^53 - 1).
    """
    standing, minutes = recounting(rules)
    if minutes:
        await conn.execute(_FORGET_MINUTES, (user_id, season_id))
        await conn.execute(minutes, (user_id, season_id))
    row = await (await conn.execute(standing, (user_id, season_id))).fetchone()
    assert row is not None
    return Standing(*row)


async def recount_what_fits(conn: Connection, season_id: SeasonId, rules: Rules, user_id: UserId) -> Standing:
    """The same of a player who begins anew. Scores that fitted with what is gone, but do not together, are discarded as
    if they had come after that: in the order of their ids each one that does not fit behind those before it that do."""
    try:
        async with conn.transaction():
            return await recount(conn, season_id, rules, user_id)
    except REFUSED:
        if rules.aggregation != "sum":
            raise
    rows = await (await conn.execute(_COUNTED, (user_id, season_id))).fetchall()
    beyond = list(not_fitting(0, [event_id for event_id, _ in rows], [points for _, points in rows]))
    for statement in _GIVE_UP:
        await conn.execute(statement, {"season_id": season_id, "beyond": beyond, "reason": REASON})
    return await recount(conn, season_id, rules, user_id)


@lru_cache
def recounting(rules: Rules) -> tuple[str, str]:
    """The statements of `recount`: of the standing, and of its minutes, "" where there are none."""
    places = places_of(rules)
    windows = array_of(chain(*(names(place, "ledger.") for place in places[1:]))) if rules.windows else "null"
    of_plain_sum = "sum(score) as score, null::timestamptz as reached_at, null::bigint as reached_by"
    parts = {
        "aggregates": of_plain_sum if rules.plain and rules.aggregation == "sum" else aggregates(rules, places),
        "told": ", ".join([*names(ALL_TIME, "ledger."), windows]),
        "minute": MINUTE.format(at=MOMENT) if rules.windows else "null::timestamptz",
        "within": WITHIN.format(minute="entry.minute", as_of=AS_OF) if rules.windows else "0",
        "of_minute": aggregates(rules, (ALL_TIME,), of_minutes=True),
    }
    return _filled(_RECOUNT, parts), _filled(_RECOUNT_MINUTES, parts) if rules.windows else ""


def _filled(query: str, parts: dict[str, str]) -> str:
    for name, text in parts.items():
        query = query.replace(f"{{{name}}}", text)
    return query
