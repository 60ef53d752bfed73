"""What the database itself can tell of how the service fares: what waits, what was refused, what vacuum can't remove.

Cheap whatever the tables hold: partial indexes, statistics, and counts that end at a bound.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.postgres import Connection

COUNTED: Final = 1_000_000
"""What is counted one by one ends here: a backlog of more is told as so many."""

_WAITING: Final = f"""
select
  (select count(*) from (select from outbox where status = 'pending' limit {COUNTED}) as pending),
  (select count(*) from (select from outbox where status = 'failed' limit {COUNTED}) as failed),
  coalesce((select extract(epoch from clock_timestamp() - created_at)::float from outbox where status = 'pending'
    order by id limit 1), 0),
  (select count(*) from deliveries where status = 'pending'),
  (select count(*) from deliveries where status = 'failed')
"""  # noqa: S608 - a constant

_DEAD = """
select relname, n_dead_tup from pg_stat_user_tables
where schemaname = current_schema()
  and relname in ('outbox', 'standings', 'seasons', 'score_events', 'idempotency_keys', 'window_buckets')
"""

# As long as a transaction that old may still look, nothing that died since can be removed.
_OLDEST_SNAPSHOT = """
select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float
from pg_stat_activity where datname = current_database() and backend_xmin is not null and pid <> pg_backend_pid()
"""


class Figures(NamedTuple):
    """`pending`, `failed`: events, up to COUNTED. `oldest_pending_seconds`: 0 where none is pending. `dead_rows` by
    table, as vacuum's statistics estimate them. `deliveries_…`: final ranks to be sent, and given up."""

    pending: int
    failed: int
    oldest_pending_seconds: float
    dead_rows: dict[str, int]
    oldest_snapshot_seconds: float
    deliveries_pending: int
    deliveries_failed: int


async def figures(conn: Connection) -> Figures:
    waiting = await (await conn.execute(_WAITING)).fetchone()
    dead = await (await conn.execute(_DEAD)).fetchall()
    snapshot = await (await conn.execute(_OLDEST_SNAPSHOT)).fetchone()
    assert waiting is not None
    assert snapshot is not None
    pending, failed, oldest, *deliveries = waiting
    return Figures(pending, failed, oldest, dict(dead), snapshot[0], *deliveries)
