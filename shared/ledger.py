"""Writing to the ledger: score and outbox event in one statement, and so in one transaction.

The statement takes its caller's connection; whoever opened the transaction owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, cast

import psycopg

from shared.postgres import Connection
from shared.scores import PLAIN, EventId, Rules, Score

# Why a season does not take a score, null where it does: one word that is told to who sent it (`Refusal`).
_REFUSAL = """
  case
    when given.epoch <> seasons.epoch then 'epoch'
    when seasons.closed_at is not null or seasons.ends_at <= now() then 'closed'
    when seasons.starts_at > now() then 'not_started'
    when coalesce(given.absolute, false) <> (seasons.aggregation <> 'sum') then seasons.aggregation
  end"""

# Ids grow with the places, by one as long as nobody else draws one meanwhile: the first one comes back, and each that
# is not as far behind it as its place. All of them, listed, would lengthen the statement by a twentieth.
_OUT_OF_LINE = "place = 1 or id - place <> (select id - place from incoming where place = 1)"

# What the ledger and the outbox say of a score, beside its id.
_EVENT: Final = "season_id, epoch, user_id, delta, created_at, occurred_at"

# One statement: one round trip and one plan for any number of rows (60,000 rows/s in batches of 32 where single inserts
# reach 4,700). The event takes its season's epoch as of now; an unknown season leaves it null, which the NOT NULL
# constraint refuses, so that the statement inserts all rows or none. What a season refuses is passed over, and comes
# back; as a rule nothing does.
#
# Scores are numbered before the join, which may turn their order around: events are folded in the order of their ids.
# Each is a microsecond later than the one before it, so that the first of a statement is the earliest.
#
# Ids come as one text, joined by a control character, which no id can hold: an array parameter would be taken apart
# element by element in Python, at twice the price of the insert. The last arrays may be shorter: nulls follow.
_APPEND = f"""
with incoming as materialized (
  select given.id, given.place, given.season_id, given.user_id, given.delta, given.created_at, given.occurred_at,
    seasons.epoch, {_REFUSAL} as refusal
  from (
    select nextval('score_events_id_seq') as id, now() + sent.place * interval '1 microsecond' as created_at, sent.*
    from unnest(string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f'), %s::bigint[], %s::boolean[], %s::int[],
      %s::timestamptz[]) with ordinality as sent (season_id, user_id, delta, absolute, epoch, occurred_at, place)
  ) as given
  left join seasons on seasons.season_id = given.season_id
), entry as (
  insert into score_events (id, {_EVENT}) overriding system value
  select id, {_EVENT} from incoming where refusal is null
), event as (
  insert into outbox (id, event_type, {_EVENT})
  select id, 'score', {_EVENT} from incoming where refusal is null
)
select place, id, refusal is null, refusal, epoch from incoming where refusal is not null or {_OUT_OF_LINE}
"""  # noqa: S608 - made of constants

# A score with a key is inserted only where its key is new. The keys go in their order, so that two batches with the
# same keys wait for each other instead of deadlocking; of equal keys in one batch the first one wins. Who waited for
# a key and lost finds its row committed. An empty key is none.
_APPEND_KEYED = f"""
with incoming as materialized (
  select given.id, given.place, given.season_id, given.user_id, given.delta, nullif(given.key, '') as key,
    given.created_at, given.occurred_at, seasons.epoch, {_REFUSAL} as refusal
  from (
    select nextval('score_events_id_seq') as id, now() + sent.place * interval '1 microsecond' as created_at, sent.*
    from unnest(
      string_to_array(%s, E'\\x1f'), string_to_array(%s, E'\\x1f'), %s::bigint[], %s::boolean[], %s::int[],
      %s::timestamptz[], string_to_array(%s, E'\\x1f')
    ) with ordinality as sent (season_id, user_id, delta, absolute, epoch, occurred_at, key, place)
  ) as given
  left join seasons on seasons.season_id = given.season_id
), fresh as (
  insert into idempotency_keys (season_id, key, event_id, user_id, delta)
  select season_id, key, id, user_id, delta from incoming where key is not null and refusal is null
  order by season_id, key, place
  on conflict do nothing
  returning event_id
), taken as (
  select * from incoming where refusal is null and (key is null or id in (select event_id from fresh))
), entry as (
  insert into score_events (id, {_EVENT}) overriding system value
  select id, {_EVENT} from taken
), event as (
  insert into outbox (id, event_type, {_EVENT})
  select id, 'score', {_EVENT} from taken
)
select place, id, is_taken, refusal, epoch
from (select *, id in (select id from taken) as is_taken from incoming offset 0) as incoming
where not is_taken or {_OUT_OF_LINE}
"""  # noqa: S608 - made of constants


def _traced(statement: str) -> str:
    """The same with the scores' traceparents behind their times, for the outbox."""
    for plain, traced in (
        ("%s::timestamptz[]", "%s::timestamptz[], string_to_array(%s, E'\\x1f')"),
        ("absolute, epoch, occurred_at", "absolute, epoch, occurred_at, traceparent"),
        ("given.occurred_at", "given.occurred_at, nullif(given.traceparent, '') as traceparent"),
        (
            f"{_EVENT})\n  select id, 'score', {_EVENT}",
            f"{_EVENT}, traceparent)\n  select id, 'score', {_EVENT}, traceparent",
        ),
    ):
        assert statement.count(plain) == 1, plain
        statement = statement.replace(plain, traced)
    return statement


# Apart, so that what nobody follows costs nothing: these run where at least one score of a commit is traced.
_APPEND_TRACED = _traced(_APPEND)
_APPEND_KEYED_TRACED = _traced(_APPEND_KEYED)

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
insert into seasons (season_id, aggregation, sort_order, windows, tie_break)
select distinct season_id, %s, %s, %s, %s from unnest(%s::text[]) as s (season_id)
where not exists (select from seasons where seasons.season_id = s.season_id)
order by season_id
on conflict do nothing
"""


_SEPARATOR: Final = "\x1f"
"""Between ids in one text: no id holds a control character (shared.scores)."""


class UnknownSeasonError(Exception):
    """A score names a season without a row; nothing was inserted. `create_seasons` mends it."""


class Refusal(NamedTuple):
    """Why a season did not take a score: it is closed, has not started, is in another epoch than the score names, or
    aggregates in another way than the score is meant. `epoch`: the season's."""

    reason: Literal["closed", "not_started", "epoch", "sum", "best", "latest"]
    epoch: int


class Replayed(NamedTuple):
    """A score that had been stored before, under the same key, by this id."""

    event_id: EventId


Outcome: TypeAlias = EventId | Replayed | Refusal | Literal["reused", "expired", "unknown"]
"""What became of a score: the id by which it was inserted; inserted before under the same key; not inserted, because
its season refuses it; because its key stands for another score; because its key was known and then purged before it
could be compared; or inserted now or before or never, because what its key stands for could not be asked."""


class _Known(NamedTuple):
    """What a key stands for."""

    event_id: EventId
    user_id: str
    delta: int


async def append(conn: Connection, scores: Sequence[Score]) -> list[Outcome]:
    """Insert each score and its outbox event unless its key is known or its season refuses it; on any error none.
    Returns what became of each.

    Raises UnknownSeasonError; psycopg.DataError or IntegrityError when a row breaks a constraint.
    """
    season_ids, user_ids, deltas, keys, absolute, epochs, moments, traceparents = zip(*scores, strict=True)
    incoming: tuple[str, ...] = (
        _SEPARATOR.join(season_ids),
        _SEPARATOR.join(user_ids),
        f"{{{','.join(map(str, deltas))}}}",
        f"{{{','.join(map(str, absolute))}}}" if any(absolute) else "{}",
        f"{{{','.join('null' if epoch is None else str(epoch) for epoch in epochs)}}}" if any(epochs) else "{}",
        f"{{{','.join('null' if at is None else at.isoformat() for at in moments)}}}" if any(moments) else "{}",
    )
    keyed = any(keys)
    told_keys = _SEPARATOR.join(key or "" for key in keys) if keyed else ""
    plain, with_keys = _APPEND, _APPEND_KEYED
    if any(traceparents):
        plain, with_keys = _APPEND_TRACED, _APPEND_KEYED_TRACED
        incoming = (*incoming, _SEPARATOR.join(traceparent or "" for traceparent in traceparents))
    try:
        cursor = await conn.execute(*((with_keys, (*incoming, told_keys)) if keyed else (plain, incoming)))
    except psycopg.errors.NotNullViolation as error:
        if error.diag.column_name in ("season_id", "epoch"):
            raise UnknownSeasonError from error
        raise
    told = sorted(await cursor.fetchall())  # the join may have turned them around
    first = told[0][1]
    outcomes = cast("list[Outcome]", list(range(first, first + len(scores))))
    if len(told) == 1 and told[0][2]:
        return outcomes
    for place, event_id, *_ in told:
        outcomes[place - 1] = event_id
    passed_over = [row for row in told if not row[2]]
    known = await _known(conn, incoming[0], told_keys) if keyed and passed_over else {}
    for place, _, _, reason, epoch in passed_over:
        refusal = None if reason is None else Refusal(reason, epoch)
        outcomes[place - 1] = _outcome(scores[place - 1], refusal, "unknown" if known is None else known.get(place))
    return outcomes


async def _known(conn: Connection, season_ids: str, keys: str) -> dict[int, _Known] | None:
    """What the keys that are known stand for, by place; None where that can't be asked. The scores that were inserted
    are committed all the same: they must be none the worse for their neighbours' keys."""
    try:
        found = await (await conn.execute(_KNOWN, (season_ids, keys))).fetchall()
    except (psycopg.OperationalError, TimeoutError):
        return None
    return {place: _Known(*told) for place, *told in found}


def _outcome(score: Score, refusal: Refusal | None, known: _Known | Literal["unknown"] | None) -> Outcome:
    """Of a score that was passed over. `known`: what its key stands for, None = nothing; unknown = could not be
    asked."""
    if score.key is None or known is None:
        return refusal or "expired"
    if known == "unknown":
        return known
    if refusal is not None and refusal.reason in ("sum", "best", "latest"):
        return refusal  # a delta with the key of a score
    if (known.user_id, known.delta) == (score.user_id, score.delta):
        return Replayed(known.event_id)  # also where its season would refuse it now
    return refusal or "reused"


async def create_seasons(conn: Connection, season_ids: Sequence[str], rules: Rules = PLAIN) -> None:
    """Make sure that each season has its row; who is new gets the rules. Rows of seasons are never deleted."""
    await conn.execute(_CREATE_SEASONS, (*rules.chosen, list(season_ids)))


async def purge_keys(conn: Connection, retention_hours: float, limit: int) -> int:
    """Delete at most `limit` idempotency keys older than the retention; returns how many. Their events stay."""
    return (await conn.execute(PURGE_KEYS, (retention_hours, limit))).rowcount
