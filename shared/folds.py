"""Folding events into standings: one statement for the seasons of a batch that have the same rules.

Only events of a season's current epoch count; those before a reset are without effect. The seasons' rows are locked and
carry the new token already. Rows are written in order, so that they are locked in the same order by everyone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

from shared.aggregates import (
    AS_OF,
    COLUMNS,
    FULL_COLUMNS,
    LEAVES,
    MINUTE,
    MOMENT,
    PLACES,
    WITHIN,
    bounded,
    counts_more,
    names,
    preference,
)
from shared.postgres import Connection
from shared.scores import Rules
from shared.standings import Standing

_CURRENT: Final = """
from outbox as event
join seasons as season on season.season_id = event.season_id and season.epoch = event.epoch
where event.id = any(%s::bigint[]) and season.aggregation = '{aggregation}' and season.sort_order = '{order}'
  and season.windows = {windows} and season.tie_break = '{tie_break}'"""

_SUM: Final = f"""
insert into standings as standing (season_id, epoch, user_id, score, token)
select event.season_id, event.epoch, event.user_id, sum(event.delta)::bigint, season.token
{_CURRENT}
group by event.season_id, event.epoch, event.user_id, season.token
order by event.season_id, event.epoch, event.user_id
on conflict (season_id, epoch, user_id) do update
set score = coalesce(standing.score, 0) + excluded.score, token = excluded.token
returning {COLUMNS}
"""

# Of each player the event that counts most, if it counts more than the one that the standing is of. In whatever order
# batches come, the same is left in the end. A standing that stays is not touched, and need not be shown.
_PICK: Final = f"""
with event as (
  select event.season_id, event.epoch, event.user_id, event.delta as score, {MOMENT} as at, event.id, season.token
  {_CURRENT}
)
insert into standings as standing (season_id, epoch, user_id, score, reached_at, reached_by, token)
select distinct on (season_id, epoch, user_id) season_id, epoch, user_id, score, at, id, token
from event
order by season_id, epoch, user_id, {{preference}}
on conflict (season_id, epoch, user_id) do update
set score = excluded.score, reached_at = excluded.reached_at, reached_by = excluded.reached_by, token = excluded.token
where standing.score is null or standing.reached_by is null or {{counts_more}}
returning {COLUMNS}
"""  # noqa: S608 - constants

_TIMED: Final = f"""
with event as materialized (
  select timed.*, case when windows then {WITHIN.format(minute="minute", as_of="as_of")} else 0 end as within,
    row_number() over (order by {{preference}}) as place
  from (
    select event.season_id, event.epoch, event.user_id, event.delta as score, {MOMENT} as at, event.id, season.token,
      season.windows, {MINUTE.format(at=MOMENT)} as minute, {AS_OF} as as_of
    {_CURRENT}
  ) as timed
)"""  # noqa: S608 - constants

_LEAVES: Final = LEAVES.format(minute="minute", within="within")

# By their places, which the planner would otherwise join with all events one by one.
_LISTED: Final = """listed as materialized (
  select array_agg(score order by place) as score, array_agg(at order by place) as at,
    array_agg(id order by place) as id
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
insert into standings as standing (season_id, epoch, user_id, token, {names(PLACES)})
select season_id, epoch, user_id, token, {{chosen}} from summed, listed order by season_id, epoch, user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token, {{merged}}
returning {FULL_COLUMNS}
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
insert into standings as standing (season_id, epoch, user_id, token, {names(PLACES)})
select season_id, epoch, user_id, token, {{chosen}} from picked, listed order by season_id, epoch, user_id
on conflict (season_id, epoch, user_id) do update set token = excluded.token, {{merged}}
where {{any_counts_more}}
  or (standing.season_id, standing.user_id) in (select season_id, user_id from picked where late)
returning {FULL_COLUMNS}
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
    told = {name: str(value).lower() for name, value in rules._asdict().items()}
    if rules.plain and rules.aggregation == "sum":
        return _SUM.format(**told)
    if rules.plain:
        more = counts_more(rules, "excluded", "standing")
        return _PICK.format(**told, preference=preference(rules), counts_more=more)
    firsts = ", ".join(f"min(place) filter (where {condition}) as first{suffix}" for suffix, condition in PLACES)
    if rules.aggregation == "sum":
        return _FULL_SUM.format(
            **told,
            preference=preference(rules),
            merged_in_bucket=_later("kept"),
            sums=", ".join(f"sum(score) filter (where {condition}) as score{suffix}" for suffix, condition in PLACES),
            firsts=firsts,
            chosen=", ".join(
                f"{bounded(f'summed.score{suffix}') if suffix else 'summed.score'}, "
                f"listed.at[first{suffix}], listed.id[first{suffix}]"
                for suffix, _ in PLACES
            ),
            merged=", ".join(_added(suffix) for suffix, _ in PLACES),
        )
    more_at = {suffix: _counts_more(rules, suffix) for suffix, _ in PLACES}
    return _FULL_PICK.format(
        **told,
        preference=preference(rules),
        counts_more_in_bucket=counts_more(rules, "excluded", "kept"),
        firsts=firsts,
        chosen=", ".join(f"listed.{name}[first{suffix}]" for suffix, _ in PLACES for name in ("score", "at", "id")),
        merged=", ".join(
            f"{name}{suffix} = case when {more_at[suffix]} then excluded.{name}{suffix} "
            f"else standing.{name}{suffix} end"
            for suffix, _ in PLACES
            for name in ("score", "reached_at", "reached_by")
        ),
        any_counts_more=" or ".join(f"({condition})" for condition in more_at.values()),
    )


def _added(suffix: str) -> str:
    score = f"score{suffix}"
    total = f"(coalesce(standing.{score}, 0) + excluded.{score})"
    return (
        f"{score} = case when excluded.{score} is null then standing.{score} "
        f"else {bounded(total) if suffix else total} end, {_later('standing', suffix)}"
    )


def _later(old: str, suffix: str = "") -> str:
    """Of two sums' last scores the later one."""
    at, by = f"reached_at{suffix}", f"reached_by{suffix}"
    is_later = f"{old}.{at} is null or (excluded.{at}, excluded.{by}) > ({old}.{at}, {old}.{by})"
    return ", ".join(f"{name} = case when {is_later} then excluded.{name} else {old}.{name} end" for name in (at, by))


def _counts_more(rules: Rules, suffix: str) -> str:
    score, by = f"score{suffix}", f"reached_by{suffix}"
    more = counts_more(rules, "excluded", "standing", suffix)
    return f"excluded.{score} is not null and (standing.{score} is null or standing.{by} is null or {more})"
