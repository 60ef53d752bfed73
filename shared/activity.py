"""Who works on the ledger at this moment, as PostgreSQL sees it: its sessions carry the names of our processes."""

from __future__ import annotations

from typing import NamedTuple

from shared.postgres import Connection

# Sessions are named by shared.postgres.connection_settings. Without the right to see other roles' sessions their
# state is null, and they count as connections only.
SESSIONS = """
select substring(application_name from '^leaderboard-(.*)'), coalesce(host(client_addr), 'local'), count(*),
  count(*) filter (where state <> 'idle' and pid <> pg_backend_pid()),
  count(*) filter (where wait_event_type = 'Lock'),
  max(extract(epoch from clock_timestamp() - xact_start)) filter (where pid <> pg_backend_pid())::float,
  min(extract(epoch from clock_timestamp() - state_change))::float
from pg_stat_activity
where datname = current_database() and application_name like 'leaderboard-%'
group by 1, 2 order by 1, 2
"""

# Tokens are microseconds of PostgreSQL's clock.
LAST_BATCH = """
select greatest(extract(epoch from clock_timestamp()) - max(token) / 1000000.0, 0)::float from seasons where token > 0
"""


class Sessions(NamedTuple):
    """Of one kind of process at one address. `busy`: not idle, `blocked`: waiting for a lock; seconds of the longest
    transaction, None = none is open, and since any of them last began or ended a statement."""

    process: str
    address: str
    connections: int
    busy: int
    blocked: int
    transaction_seconds: float | None
    quiet_seconds: float | None


class Activity(NamedTuple):
    """`last_batch_seconds`: since a batch, reset or repair last changed a season; None = never."""

    sessions: list[Sessions]
    last_batch_seconds: float | None


async def read(conn: Connection) -> Activity:
    sessions = [Sessions(*row) for row in await (await conn.execute(SESSIONS)).fetchall()]
    row = await (await conn.execute(LAST_BATCH)).fetchone()
    return Activity(sessions, None if row is None else row[0])
