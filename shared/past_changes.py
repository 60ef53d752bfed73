"""What came to a season's standings between a snapshot and a moment, as text of SQL: the beginning of every statement
about a board as of a moment.

A score counts from its `created_at` on until it is voided, by the moment at which that was asked for. One that failed
or was discarded never does: no board has shown it for good. `changed` are the standings that are not those of the
snapshot; whoever is in `excluded` is to be left out of that. While a score is pending that will fail, a sum may be more
than a board holds: it is cut.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from shared import erasing
from shared.aggregates import ALL_TIME, MOMENT, aggregates, microseconds
from shared.player_entries import of_player
from shared.scores import MAX_SCORE, Rules

# What was asked for and has failed, or was discarded, never took effect.
_EFFECTIVE: Final = """(asked.applied_at is not null or exists (
    select from outbox where outbox.id = asked.id and outbox.status = 'pending' offset 0))"""

_OF_PLAYER: Final = of_player("event", season_id="%(season_id)s", user_id="amended.user_id")

# A discard may be committed somewhat after its moment, when the snapshot was made already.
_LATE: Final = "interval '1 hour'"

# Where nothing but the sum decides on a place.
_SUM: Final = "sum(score) as score, null::timestamptz as reached_at, null::bigint as reached_by"

# A score that had failed when the snapshot was made is not in it, and one that came later is left out by its id: of
# neither is anybody counted anew, however many have failed. One that failed since then may be in it, and one that had
# failed and is tried again is not.
_CHANGES: Final = f"""
with failed as materialized (
  select id, user_id from outbox
  where status = 'failed' and event_type = 'score' and season_id = %(season_id)s and epoch = %(epoch)s
), had_failed as materialized (
  select unnest(failed) as id from snapshots where snapshot_id = %(snapshot_id)s
), voids as materialized (
  select asked.event_id, asked.user_id, asked.requested_at from moderations as asked
  where asked.season_id = %(season_id)s and asked.action = 'void' and asked.applied_at is null and {_EFFECTIVE}
), hidden as materialized (
  select user_id from (
    select distinct on (asked.user_id) asked.user_id, asked.action from moderations as asked
    where asked.season_id = %(season_id)s and asked.action in ('hide', 'unhide') and asked.user_id is not null
      and asked.requested_at <= %(hidden_at)s and {_EFFECTIVE}
    order by asked.user_id, asked.id desc
  ) as last
  where action = 'hide'
  union select user_id from moderations as erasure where season_id = %(season_id)s and {erasing.BEGUN}
), amended as materialized (
  select user_id from score_events
  where season_id = %(season_id)s and epoch = %(epoch)s and (voided_at is not null or discarded_at is not null)
    and greatest(voided_at, discarded_at) > %(since)s::timestamptz - {_LATE}
  union select user_id from failed
  where id <= (select high_id from snapshots where snapshot_id = %(snapshot_id)s)
    and id not in (select id from had_failed)
  union select event.user_id from had_failed cross join lateral (
    select user_id from score_events as event
    where event.season_id = %(season_id)s and event.epoch = %(epoch)s and event.id = had_failed.id limit 1
  ) as event
  where had_failed.id not in (select id from failed)
  union select user_id from voids where user_id is not null
  union select unnest(%(unsettled)s::text[]) collate "C"
), replayed as materialized (
  select event.user_id, event.delta as score, {MOMENT} as at, event.id
  from score_events as event
  where event.season_id = %(season_id)s and event.epoch = %(epoch)s
    and event.id > %(low_id)s and event.id <= %(high_id)s
    and event.created_at > %(since)s and event.created_at <= %(moment)s
    and event.user_id not in (select user_id from amended)
    and event.id not in (select id from failed)
), recounted as materialized (
  select event.* from amended cross join lateral (
    select event.user_id, event.delta as score, {MOMENT} as at, event.id
    from score_events as event
    where {_OF_PLAYER} and event.epoch = %(epoch)s and event.created_at <= %(moment)s
      and event.discarded_at is null and (event.voided_at is null or event.voided_at > %(moment)s)
      and event.id not in (select id from failed)
      and event.id not in (select event_id from voids where requested_at <= %(moment)s)
    offset 0
  ) as event
), excluded as materialized (
  select user_id from replayed union select user_id from amended union select user_id from hidden order by user_id
), known as materialized (
  select entry.* from excluded cross join lateral (
    select user_id, score, tie_at, tie_by, reached_by from snapshot_standings
    where snapshot_id = %(snapshot_id)s and user_id = excluded.user_id offset 0
  ) as entry
), changed as materialized (
  select user_id, greatest(-{MAX_SCORE}, least({MAX_SCORE}, score))::bigint as score,
    {{tie_at}} as tie_at, {{tie_by}} as tie_by, {{reached_by}} as reached_by,
    abs(score) > {MAX_SCORE} as is_cut
  from (
    select user_id, {{aggregates}} from (
      select user_id, score, at, id from replayed
      union all
      select user_id, score, {{at}} as at, {{by}} as id from known where user_id not in (select user_id from amended)
      union all
      select user_id, score, at, id from recounted
    ) as event
    group by user_id
  ) as told
), visible as materialized (
  select user_id, score, tie_at, tie_by from changed where user_id not in (select user_id from hidden)
), counted as materialized (
  select %(players)s::bigint - (select count(*) from known) + (select count(*) from visible) as total
)"""  # noqa: S608 - constants


@lru_cache
def changes(rules: Rules) -> str:
    """The beginning of a statement of a season with these rules; its parameters are those of
    `shared.past.Then.parameters`."""
    earliest = rules.tie_break == "earliest"
    sign = "-" if rules.order == "desc" else ""
    latest = rules.aggregation == "latest"
    # A standing of the snapshot is taken for one score more. What its place does not depend on, it does not say.
    of_tie = f"{sign}tie_by" if earliest else "null::bigint"
    parts = {
        "aggregates": aggregates(rules, (ALL_TIME,)) if earliest or rules.aggregation != "sum" else _SUM,
        "at": f"timestamptz 'epoch' + {sign}tie_at * interval '1 microsecond'" if earliest else "null::timestamptz",
        "by": "reached_by" if latest else of_tie,
        "tie_at": f"{sign}{microseconds('reached_at')}" if earliest else "0::bigint",
        "tie_by": f"{sign}reached_by" if earliest else "0::bigint",
        "reached_by": "reached_by" if latest else "null::bigint",
    }
    query = _CHANGES
    for name, text in parts.items():
        query = query.replace(f"{{{name}}}", text)
    return query


def order_of(rules: Rules, *, best_first: bool = True) -> str:
    """By what rows of a board are ordered."""
    way = " desc" if (rules.order == "desc") is best_first else ""
    return ", ".join(f"{column}{way}" for column in ("score", "tie_at", "tie_by", "user_id"))


def before(rules: Rules, row: str, other: str, *, better: bool = True, columns: str = "all") -> str:
    """Whether a row stands before another one on the board, or, not `better`, behind it. Of columns "score" only its
    score is looked at."""
    sign = ">" if (rules.order == "desc") is better else "<"
    if columns == "score":
        return f"{row}.score {sign} {other}.score"
    of_row, of_other = (
        ", ".join(f"{of}.{column}" for column in ("score", "tie_at", "tie_by", "user_id")) for of in (row, other)
    )
    return f"({of_row}) {sign} ({of_other})"
