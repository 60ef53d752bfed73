"""views for operators"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# As of this revision. What they are now is in shared/operator_views.py; a test compares.

_OUTBOX_STATUS = """
with outbox_size as materialized (
  select pg_relation_size('outbox') < 16777216 as small,
    coalesce(nullif(pg_stat_get_live_tuples('outbox'::regclass), 0), greatest(reltuples, 0)::bigint) as events,
    coalesce((
      select sum(frequency)
      from pg_stats as told,
        unnest(told.most_common_vals::text::text[], told.most_common_freqs) as common (status, frequency)
      where told.schemaname = relnamespace::regnamespace::text and told.tablename = relname
        and told.attname = 'status' and common.status = 'discarded'), 0) as discarded
  from pg_class where oid = 'outbox'::regclass
), counted as materialized (
  select (select count(*) from outbox where status = 'pending') as pending,
    (select count(*) from outbox where status = 'failed') as failed
)
select 'pending' as status, pending as events, false as estimated from counted
union all
select 'done',
  case when small then (select count(*) from outbox where status = 'done')
    else greatest(events - pending - failed - (events * discarded)::bigint, 0) end, not small
from counted, outbox_size
union all
select 'failed', failed, false from counted
union all
select 'discarded',
  case when small then (select count(*) from outbox where status = 'discarded')
    else (events * discarded)::bigint end, not small
from outbox_size
"""

_OUTBOX_OLDEST = """
select season_id, count(*) as pending, min(created_at) as oldest_at, clock_timestamp() - min(created_at) as age,
  min(id) as oldest_id, max(attempts) as attempts
from outbox where status = 'pending' group by season_id order by oldest_at
"""

_SEASON_OVERVIEW = """
with waiting as materialized (
  select season_id, count(*) as pending from outbox where status = 'pending' group by season_id
), sample as materialized (
  select common.season_id, (common.frequency * greatest(reltuples, 0))::bigint as players
  from pg_class join pg_stats as told
    on told.schemaname = relnamespace::regnamespace::text and told.tablename = relname and told.attname = 'season_id',
    unnest(told.most_common_vals::text::text[], told.most_common_freqs) as common (season_id, frequency)
  where pg_class.oid = 'standings'::regclass
), other as materialized (
  select (greatest(reltuples, 0) * (1 - coalesce((select sum(f) from unnest(told.most_common_freqs) as f), 0))
    / greatest(case when n_distinct < 0 then -n_distinct * reltuples else n_distinct end
        - coalesce(cardinality(told.most_common_freqs), 0), 1))::bigint as players
  from pg_class join pg_stats as told
    on told.schemaname = relnamespace::regnamespace::text and told.tablename = relname and told.attname = 'season_id'
  where pg_class.oid = 'standings'::regclass
)
select season.season_id, season.epoch,
  case
    when season.closed_at is not null or season.ends_at <= now() then 'closed'
    when season.starts_at > now() then 'scheduled'
    else 'open'
  end as state,
  season.aggregation, season.sort_order, season.windows,
  case when counted.players > 1000 then greatest(counted.players, sample.players,
    case when sample.players is null then (select other.players from other) end) else counted.players end as players,
  counted.players > 1000 as players_estimated,
  coalesce(waiting.pending, 0) as pending,
  case when season.token > 0 then to_timestamp(season.token / 1000000.0) end as changed_at
from seasons as season
left join waiting on waiting.season_id = season.season_id
left join sample on sample.season_id = season.season_id
cross join lateral (
  select count(*) as players from (
    select from standings
    where standings.season_id = season.season_id and standings.epoch = season.epoch and standings.score is not null
    order by standings.user_id limit 1001) as first
) as counted
"""

_WORKER_ACTIVITY = """
select pid, application_name as process, state,
  case when state <> 'idle' then wait_event_type || ': ' || wait_event end as waits_for,
  case when wait_event_type = 'Lock' then pg_blocking_pids(pid) end as blocked_by,
  clock_timestamp() - xact_start as transaction_age, age(backend_xmin) as snapshot_age,
  left(regexp_replace(query, '\\s+', ' ', 'g'), 80) as query
from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid()
  and (application_name like 'leaderboard-%' or xact_start is not null)
order by xact_start nulls last, application_name, pid
"""

_VIEWS = {
    "outbox_status": _OUTBOX_STATUS,
    "outbox_oldest": _OUTBOX_OLDEST,
    "season_overview": _SEASON_OVERVIEW,
    "worker_activity": _WORKER_ACTIVITY,
}


def upgrade() -> None:
    for name, query in _VIEWS.items():
        op.execute(f"create view {name} as {query}")


def downgrade() -> None:
    for name in reversed(_VIEWS):
        op.execute(f"drop view {name}")
