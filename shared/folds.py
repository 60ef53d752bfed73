"""Folding events into standings: one statement for the seasons of a batch that have the same rules.

Only events of a season's current epoch count; those before a reset are without effect. The seasons' rows are locked and
carry the new token already. Rows are written in order, so that they are locked in the same order by everyone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from shared.aggregates import (
    ALL_TIME,
    AS_OF,
    LEAVES,
    MINUTE,
    MOMENT,
    VALUES,
    WITHIN,
    Place,
    array_of,
    bounded,
    columns_of,
    counts_more,
    held,
    microseconds,
    places_of,
    preference,
)
from shared.postgres import Connection
from shared.scores import Rules
from shared.standings import Standing

_CURRENT: Final = """
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s::bigint[]) and season.aggregation = '{aggregation}' and season.sort_order = '{order}'
  and season.windows = {windows} and season.tie_break = '{tie_break}' and season.hides = {hides}"""

# No window has a value. A new row is longer by this than those that take its place, so that pages which new players
# have filled are emptier in the end than their fill factor says: PostgreSQL tidies up a fuller one at each access.
_ROOM: Final = "'{{null}}'::bigint[]"

_SUM: Final = f"""
insert into standings as standing (season_id, epoch, user_id, score, token, windows)
select event.season_id, event.epoch, event.user_id, sum(event.delta)::bigint, season.token, {_ROOM}
{_CURRENT}
group by event.season_id, event.epoch, event.user_id, season.token
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update
set score = coalesce(standing.score, 0) + excluded.score, token = excluded.token, windows = null
returning {{columns}}
"""

# Of each player the event that counts most, if it counts more than the one that the standing is of. In whatever order
# batches come, the same is left in the end. A standing that stays is not touched, and need not be shown.
_PICK: Final = f"""
with event as (
  select event.season_id, event.epoch, event.user_id, event.delta as score, {MOMENT} as at, event.id, season.token
  {_CURRENT}
)
insert into standings as standing (season_id, epoch, user_id, score, reached_at, reached_by, token, windows)
select distinct on (season_id, epoch, user_id) season_id, epoch, user_id, score, at, id, token, {_ROOM}
from event
order by season_id, epoch, user_id, {{preference}}
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by, token = excluded.token,
  windows = null
where standing.score is null or standing.reached_by is null or {{counts_more}}
returning {{columns}}
"""  # noqa: S608 - constants

_TIMED: Final = f"""
with event as materialized (
  select timed.*, case when windows then {WITHIN.format(minute="minute", as_of="as_of")} else 0 end as within,
    row_number() over (order by {{preference}}) as place
  from (
    select event.season_id, event.epoch, event.user_id, event.delta as score, {MOMENT} as at, event.id, season.token,
      season.windows, {microseconds(MOMENT)} as us, {MINUTE.format(at=MOMENT)} as minute, {AS_OF} as as_of
    {_CURRENT}
  ) as timed
)"""  # noqa: S608 - constants

_LEAVES: Final = LEAVES.format(minute="minute", within="within")

# By their places, which the planner would otherwise join with all events one by one.
_LISTED: Final = """listed as materialized (
  select array_agg(score order by place) as score, array_agg(at order by place) as at,
    array_agg(us order by place) as us, array_agg(id order by place) as id
  from event
)"""

# Sums with windows, or with the moment when they were reached: that of the last score that is in them.
_FULL_SUM: Final = f"""
{_TIMED}, {_LISTED}, bucket as (
  insert into window_buckets as kept (season_id, epoch, user_id, minute, score, reached_at, reached_by, leaves_at)
  select season_id, epoch, user_id, minute, summed.score, listed.at[first], listed.id[first], {_LEAVES}
  from (
    select season_id, epoch, user_id, minute, within, {bounded("sum(score)")} as score, min(place) as first
    from event where within > 0 group by season_id, epoch, user_id, minute, within
  ) as summed, listed
  order by season_id, epoch, user_id, minute
  on conflict (season_id, epoch, user_id, minute) do update
  set score = {bounded("(kept.score + excluded.score)")}, {{merged_in_bucket}}
), summed as materialized (
  select season_id, epoch, user_id, token, {{sums}}, {{firsts}} from event group by season_id, epoch, user_id, token
)
insert into standings as standing (season_id, epoch, user_id, token, score, reached_at, reached_by, windows)
select season_id, epoch, user_id, token, {{chosen}} from summed, listed order by season_id, epoch, user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token, {{merged}}
returning {{columns}}
"""  # noqa: S608 - constants

# The same of what does not add up. An event that is in no longer all windows may have been shown in one by a batch that
# never committed: its player's standing is sent in any case.
_FULL_PICK: Final = f"""
{_TIMED}, {_LISTED}, bucket as (
  insert into window_buckets as kept (season_id, epoch, user_id, minute, score, reached_at, reached_by, leaves_at)
  select distinct on (season_id, epoch, user_id, minute)
    season_id, epoch, user_id, minute, score, at, id, {_LEAVES}
  from event where within > 0 order by season_id, epoch, user_id, minute, place
  on conflict (season_id, epoch, user_id, minute) do update
  set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by
  where {{counts_more_in_bucket}}
), picked as materialized (
  select season_id, epoch, user_id, token, {{firsts}}, bool_or(windows and within < 3) as late
  from event group by season_id, epoch, user_id, token
)
insert into standings as standing (season_id, epoch, user_id, token, score, reached_at, reached_by, windows)
select season_id, epoch, user_id, token, {{chosen}} from picked, listed order by season_id, epoch, user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token, {{merged}}
where {{any_counts_more}}
  or (standing.season_id, standing.user_id) in (select season_id, user_id from picked where late)
returning {{columns}}
"""  # noqa: S608 - constants


async def fold(conn: Connection, event_ids: Sequence[int], rules: Collection[Rules]) -> list[Standing]:
    """Fold the events into their players' standings; returns those that must be shown.

    `rules`: those of the events' seasons, each once. Raises psycopg.DataError or IntegrityError when a sum leaves
    ±(2^53 - 1).
    """
    # As text: psycopg turns a list into an array one element after the other, ten times as slowly.
    ids = f"{{{','.join(map(str, event_ids))}}}"
    changed: list[Standing] = []
    for kind in sorted(rules):
        cursor = await conn.execute(statement(kind), (ids,))
        changed += (Standing(*row) for row in await cursor.fetchall())
    return changed


@lru_cache
def statement(rules: Rules) -> str:
    """The statement that folds events of seasons with these rules; its parameter is their ids."""
    told = {name: str(value).lower() for name, value in rules._asdict().items()} | {"columns": columns_of(rules)}
    if rules.plain and rules.aggregation == "sum":
        return _SUM.format(**told)
    if rules.plain:
        more = counts_more(rules, "excluded", "standing")
        return _PICK.format(**told, preference=preference(rules), counts_more=more)
    places = places_of(rules)
    adds_up = rules.aggregation == "sum"
    of_old = [list(_merged(rules, place)) for place in places]
    of_new = [list(_chosen(place, adds_up=adds_up)) for place in places]
    merged = ", ".join(f"{value} = {merged}" for value, merged in zip(VALUES, of_old[0], strict=True))
    told |= {
        "preference": preference(rules),
        "firsts": ", ".join(f"min(place) filter (where {place.condition}) as first{place.suffix}" for place in places),
        "chosen": ", ".join(of_new[0]) + ", " + (array_of(chain(*of_new[1:])) if rules.windows else "null"),
        "merged": merged + (f", windows = {array_of(chain(*of_old[1:]))}" if rules.windows else ""),
    }
    if adds_up:
        in_bucket = ", ".join(
            f"{value} = {later}" for value, later in zip(VALUES[1:], _later("kept", ALL_TIME), strict=True)
        )
        sums = ", ".join(f"sum(score) filter (where {place.condition}) as score{place.suffix}" for place in places)
        return _FULL_SUM.format(**told, merged_in_bucket=in_bucket, sums=sums)
    return _FULL_PICK.format(
        **told,
        counts_more_in_bucket=counts_more(rules, "excluded", "kept"),
        any_counts_more=" or ".join(f"({_counts_more(rules, place)})" for place in places),
    )


def _chosen(place: Place, *, adds_up: bool) -> Iterator[str]:
    """The values of what is inserted: the sum, or the score that counts, and by which event it was reached."""
    first = f"first{place.suffix}"
    if adds_up:
        total = f"summed.score{place.suffix}"
        yield bounded(total) if place.first else total
    else:
        yield f"listed.score[{first}]"
    yield f"listed.{'us' if place.first else 'at'}[{first}]"
    yield f"listed.id[{first}]"


def _merged(rules: Rules, place: Place) -> Iterator[str]:
    """The values of a standing that is there already, with what comes to it."""
    if rules.aggregation != "sum":
        more = _counts_more(rules, place)
        for value in VALUES:
            new, old = held("excluded", value, place), held("standing", value, place)
            yield f"case when {more} then {new} else {old} end"
        return
    new, old = held("excluded", "score", place), held("standing", "score", place)
    total = f"(coalesce({old}, 0) + {new})"
    yield f"case when {new} is null then {old} else {bounded(total) if place.first else total} end"
    yield from _later("standing", place)


def _later(old_row: str, place: Place) -> Iterator[str]:
    """Of two sums' last scores the later one."""
    (at, by), (old_at, old_by) = ([held(row, value, place) for value in VALUES[1:]] for row in ("excluded", old_row))
    is_later = f"{old_at} is null or ({at}, {by}) > ({old_at}, {old_by})"
    for new, old in ((at, old_at), (by, old_by)):
        yield f"case when {is_later} then {new} else {old} end"


def _counts_more(rules: Rules, place: Place) -> str:
    (new, _), (old, by) = (
        [held(row, value, place) for value in ("score", "reached_by")] for row in ("excluded", "standing")
    )
    more = counts_more(rules, "excluded", "standing", place)
    return f"{new} is not null and ({old} is null or {by} is null or {more})"
