"""Writing to the ledger: score and outbox event in one statement, and so in one transaction.

The statement takes its caller's connection; whoever opened the transaction owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import psycopg

from shared.postgres import Connection
from shared.scores import Score

# One statement: one round trip and one plan for any number of rows (60,000 rows/s in batches of 32 where single inserts
# reach 4,700). The event takes its season's epoch as of now; an unknown season leaves it null, which the NOT NULL
# constraint refuses, so that the statement inserts all rows or none.
#
# Scores are numbered before the join, which may turn their order around: events are folded in the order of their ids.
#
# Ids come as one text, joined by a control character, which no id can hold: an array parameter would be taken apart
# element by element in Python, at twice the price of the insert.
_APPEND = """
with entry as (
  insert into score_events (season_id, epoch, id, user_id, delta) overriding system value
  select s.season_id, seasons.epoch, s.id, s.user_id, s.delta
  from (
    select nextval('score_events_id_seq') as id, given.*
    from unnest(string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f'), %s::bigint[])
      as given (season_id, user_id, delta)
  ) as s
  left join seasons on seasons.season_id = s.season_id
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry
"""

# A score with a key is inserted only where its key is new. The keys go in their order, so that two batches with the
# same keys wait for each other instead of deadlocking; of equal keys in one batch the first one wins. Who waited for
# a key and lost finds its row committed. An empty key is none.
_APPEND_KEYED = """
with incoming as (
  select s.id, s.season_id, s.user_id, s.delta, nullif(s.key, '') as key, s.place, seasons.epoch
  from (
    select nextval('score_events_id_seq') as id, given.*
    from unnest(
      string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f'), %s::bigint[], string_to_array(%s, E'\\x1f')
    ) with ordinality as given (season_id, user_id, delta, key, place)
  ) as s
  left join seasons on seasons.season_id = s.season_id
), fresh as (
  insert into idempotency_keys (season_id, key, event_id, user_id, delta)
  select season_id, key, id, user_id, delta from incoming where key is not null
  order by season_id, key, place
  on conflict do nothing
  returning event_id
), entry as (
  insert into score_events (season_id, epoch, id, user_id, delta) overriding system value
  select season_id, epoch, id, user_id, delta from incoming
  where key is null or id in (select event_id from fresh)
  returning id, season_id, epoch, user_id, delta
)
insert into outbox (id, event_type, season_id, epoch, user_id, delta)
select id, 'score', season_id, epoch, user_id, delta from entry
returning id
"""

# ctid: the cheapest way to name a bounded number of rows.
PURGE_KEYS = """
delete from idempotency_keys where ctid = any(array(
  select ctid from idempotency_keys where created_at < now() - %s * interval '1 hour' order by created_at limit %s))
"""

_KNOWN = """
select s.place, known.event_id, known.user_id, known.delta
from unnest(string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f')) with ordinality as s (season_id, key, place)
join idempotency_keys as known on known.season_id = s.season_id and known.key = s.key
"""

# In order, so that two processes that create the same seasons wait for each other instead of deadlocking. Those that
# are there are not even tried: `on conflict` waits for who holds such a row, and a worker may do so for seconds.
_CREATE_SEASONS = """
insert into seasons (season_id)
select distinct season_id from unnest(%s::text[]) as s (season_id)
where not exists (select from seasons where seasons.season_id = s.season_id)
order by season_id
on conflict do nothing
"""


_SEPARATOR: Final = "\x1f"
"""Between ids in one text: no id holds a control character (shared.scores)."""


class UnknownSeasonError(Exception):
    """A score names a season without a row; nothing was inserted. `create_seasons` mends it."""


Outcome = Literal["stored", "replayed", "reused", "expired", "unknown"]
"""What became of a score: inserted; inserted before under the same key; not inserted, because its key stands for
another score; not inserted, because its key was known and then purged before it could be compared; inserted now or
before or never, because what its key stands for could not be asked."""


async def append(conn: Connection, scores: Sequence[Score]) -> Sequence[Outcome]:
    """Insert each score and its outbox event unless its key is known; on any error none. Returns what became of each.

    Raises UnknownSeasonError; psycopg.DataError or IntegrityError when a row breaks a constraint.
    """
    season_ids, user_ids, deltas, keys = zip(*scores, strict=True)
    incoming = (_SEPARATOR.join(season_ids), _SEPARATOR.join(user_ids), f"{{{','.join(map(str, deltas))}}}")
    keyed = any(keys)
    told_keys = _SEPARATOR.join(key or "" for key in keys) if keyed else ""
    try:
        cursor = await conn.execute(*((_APPEND_KEYED, (*incoming, told_keys)) if keyed else (_APPEND, incoming)))
    except psycopg.errors.NotNullViolation as error:
        if error.diag.column_name in ("season_id", "epoch"):
            raise UnknownSeasonError from error
        raise
    if cursor.rowcount == len(scores):
        return ["stored"] * len(scores)
    stored = {row[0] for row in await cursor.fetchall()}
    try:
        found = await (await conn.execute(_KNOWN, (incoming[0], told_keys))).fetchall()
    except (psycopg.OperationalError, TimeoutError):
        # Committed all the same: scores without a key are none the worse for their neighbours' keys.
        return ["stored" if score.key is None else "unknown" for score in scores]
    known = {place: (event_id, user_id, delta) for place, event_id, user_id, delta in found}
    return [_outcome(score, known.get(place), stored) for place, score in enumerate(scores, start=1)]


def _outcome(score: Score, known: tuple[int, str, int] | None, stored: set[int]) -> Outcome:
    if score.key is None:
        return "stored"
    if known is None:
        return "expired"
    event_id, user_id, delta = known
    if (user_id, delta) != (score.user_id, score.delta):
        return "reused"
    if event_id in stored:
        stored.remove(event_id)  # of equal ones in this batch the first
        return "stored"
    return "replayed"


async def create_seasons(conn: Connection, season_ids: Sequence[str]) -> None:
    """Make sure that each season has its row. Rows of seasons are never deleted."""
    await conn.execute(_CREATE_SEASONS, (list(season_ids),))


async def purge_keys(conn: Connection, retention_hours: float, limit: int) -> int:
    """Delete at most `limit` idempotency keys older than the retention; returns how many. Their events stay."""
    return (await conn.execute(PURGE_KEYS, (retention_hours, limit))).rowcount
