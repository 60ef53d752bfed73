"""Final ranks on their way to who is to be told: an outbox of its own (docs/decisions/0027-tournaments.md says why).

Written down once per epoch, tried until it is taken or given up. Every statement takes its caller's connection.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from shared.epochs import Reason
from shared.postgres import Connection
from shared.reward_events import Closed, Place, body_of, without_player
from shared.scores import SeasonId, UserId

Status: TypeAlias = Literal["pending", "done", "failed"]

PAUSES: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds after each attempt that failed, as Standard Webhooks proposes ("Deliverability and reliability"): ten
attempts in three days and four hours."""

_JITTER: Final = 0.1

LEASE_SECONDS: Final = 30.0
"""How long an attempt under way is nobody else's. More than one may take; one that died is repeated after it."""

_MAX_ERROR: Final = 500

_MOST: Final = 100

# Sealed: final_ranks holds what is told.
EPOCHS: Final = f"""
select hook.season_id, hook.epoch
from epoch_hooks as hook join season_epochs as ended using (season_id, epoch)
where ended.sealed_at is not null order by hook.season_id, hook.epoch limit {_MOST}
"""  # noqa: S608 - constants

# Against erasures: who is erased is deleted from what was told before, or is not in final_ranks any more. In the order
# of locks of all: the season, its epoch, what belongs to that. Nobody is waited for, the next round comes by again.
_LOCK: Final = "select from seasons where season_id = %s for share skip locked"

# Several workers pass each other by.
_CLAIM_EPOCH: Final = """
select hook.url, hook.top, ended.reason, ended.began_at, ended.ended_at, ended.players
from epoch_hooks as hook join season_epochs as ended using (season_id, epoch)
where hook.season_id = %s and hook.epoch = %s and ended.sealed_at is not null
for update of ended, hook skip locked
"""

_RANKS: Final = """
select rank, user_id, score from final_ranks where season_id = %s and epoch = %s order by rank limit %s
"""

# An epoch that ended, was told of, and was reset afterwards is not told of again.
_WRITE: Final = """
insert into deliveries (season_id, epoch, url, webhook_id, body, body_digest, body_bytes)
values (%s, %s, %s, %s, %s, %s, %s) on conflict (season_id, epoch) do nothing
"""

_WRITTEN: Final = """
with told as (delete from epoch_hooks where season_id = %s and epoch = %s returning season_id, epoch)
update season_epochs as ended set wanted = false from told
where ended.season_id = told.season_id and ended.epoch = told.epoch
"""

# The attempt is counted, and the next one's moment set, before it is made: who dies in between has neither lost the
# delivery nor holds anything that somebody must set free. Two workers never send the same at once.
CLAIM: Final = """
update deliveries set attempts = attempts + 1, next_at = clock_timestamp() + %s * interval '1 second'
where id = any(array(
  select id from deliveries where status = 'pending' and next_at <= now() order by next_at limit %s
  for update skip locked))
returning id, season_id, epoch, url, webhook_id, body, attempts
"""

_PAUSE: Final = """
select extract(epoch from min(next_at) - clock_timestamp())::float from deliveries
where status = 'pending' and next_at > now()
"""

# Also of an attempt that was long in coming back: the receiver has it. An operator who gave it up meanwhile is told so.
_DONE: Final = """
update deliveries set status = 'done', body = null, last_error = null, processed_at = clock_timestamp()
where id = %s and status <> 'done'
"""

# Of the newest attempt alone: one that was long in coming back says nothing of those after it.
_FAILED_ONCE: Final = """
update deliveries set last_error = %s, next_at = clock_timestamp() + %s * interval '1 second'
where id = %s and attempts = %s and status = 'pending'
"""

_GIVEN_UP: Final = """
update deliveries set last_error = %s, status = 'failed', processed_at = clock_timestamp()
where id = %s and attempts = %s and status = 'pending'
"""

_RETRY: Final = """
update deliveries set status = 'pending', attempts = 0, next_at = now(), processed_at = null
where status <> 'done' and (%(every)s and status = 'failed' or id = any(%(ids)s)) returning id
"""

_LIST: Final = """
select id, season_id, epoch, status, attempts, case when status = 'pending' then next_at end, last_error, created_at,
  processed_at, url, webhook_id, body_bytes
from deliveries where %s::text is null or status = %s order by id desc limit %s
"""

_NAMING: Final = "select id, body from deliveries where season_id = %s and body is not null for update"

_REWRITE: Final = "update deliveries set body = %s, body_digest = %s, body_bytes = %s where id = %s"


class Delivery(NamedTuple):
    """An attempt to make. `attempts`: its number, from 1."""

    id: int
    season_id: SeasonId
    epoch: int
    url: str
    webhook_id: str
    body: bytes
    attempts: int


class Listed(NamedTuple):
    """`next_at`: of a pending one, when it is tried next."""

    id: int
    season_id: SeasonId
    epoch: int
    status: Status
    attempts: int
    next_at: dt.datetime | None
    last_error: str | None
    created_at: dt.datetime
    processed_at: dt.datetime | None
    url: str
    webhook_id: str
    body_bytes: int


def pause_seconds(attempts: int, draw: float) -> float | None:
    """After so many attempts; None: no more. `draw` is uniform in [0, 1): a tenth of the pause more or less."""
    if attempts > len(PAUSES):
        return None
    return PAUSES[attempts - 1] * (1 + _JITTER * (2 * draw - 1))


async def write(conn: Connection) -> SeasonId | None:
    """Write down what is to be sent of one epoch that is sealed, in the caller's transaction; None where there is none
    that nobody else sees to."""
    for season_id, epoch in await (await conn.execute(EPOCHS)).fetchall():
        if await (await conn.execute(_LOCK, (season_id,))).fetchone() is None:
            continue
        row = await (await conn.execute(_CLAIM_EPOCH, (season_id, epoch))).fetchone()
        if row is not None:
            await _write(conn, season_id, epoch, *row)
            return SeasonId(season_id)
    return None


async def _write(  # noqa: PLR0917 - the columns of a row
    conn: Connection,
    season_id: str,
    epoch: int,
    url: str,
    top: int,
    reason: Reason,
    began_at: dt.datetime | None,
    ended_at: dt.datetime,
    players: int,
) -> None:
    ranks = await (await conn.execute(_RANKS, (season_id, epoch, top))).fetchall()
    places = [Place(*rank) for rank in ranks]
    body = body_of(Closed(season_id, epoch, reason, _utc(began_at), ended_at.astimezone(dt.UTC), players, places))
    await conn.execute(_WRITE, (season_id, epoch, url, webhook_id(season_id, epoch, ended_at), *_stored(body)))
    await conn.execute(_WRITTEN, (season_id, epoch))


def webhook_id(season_id: str, epoch: int, ended_at: dt.datetime) -> str:
    """Under which receivers count it once: the same in a ledger that was restored to before it was written down."""
    told = f"{season_id}/{epoch}/{ended_at.astimezone(dt.UTC).isoformat()}"
    return f"msg_{uuid.uuid5(uuid.NAMESPACE_URL, told).hex}"


async def claim(conn: Connection, limit: int) -> list[Delivery]:
    """Attempts that are due, each of them nobody else's for LEASE_SECONDS."""
    return [Delivery(*row) for row in await (await conn.execute(CLAIM, (LEASE_SECONDS, limit))).fetchall()]


async def seconds_until_due(conn: Connection) -> float | None:
    """Until the earliest attempt that is still to come; None where there is none."""
    row = await (await conn.execute(_PAUSE)).fetchone()
    return None if row is None or row[0] is None else float(row[0])


async def note_taken(conn: Connection, delivery: Delivery) -> None:
    """The receiver has it: what names players goes."""
    await conn.execute(_DONE, (delivery.id,))


async def note_failed(conn: Connection, delivery: Delivery, error: str, pause: float | None) -> None:
    """The attempt failed; the next one comes after `pause` seconds, None: none does."""
    told = error[:_MAX_ERROR]
    if pause is None:
        await conn.execute(_GIVEN_UP, (told, delivery.id, delivery.attempts))
    else:
        await conn.execute(_FAILED_ONCE, (told, pause, delivery.id, delivery.attempts))


async def retry(conn: Connection, ids: Sequence[int], *, every: bool) -> list[int]:
    """Try those again from the start, now, `every`: all that were given up; returns which. Done ones stay done."""
    rows = await (await conn.execute(_RETRY, {"ids": list(ids), "every": every})).fetchall()
    return sorted(row[0] for row in rows)


async def listed(conn: Connection, status: Status | None, limit: int) -> list[Listed]:
    """The newest first."""
    return [Listed(*row) for row in await (await conn.execute(_LIST, (status, status, limit))).fetchall()]


async def forget_player(conn: Connection, season_id: SeasonId, user_id: UserId) -> None:
    """Take an erased player out of what is still to be sent; the others' ranks stay."""
    for delivery_id, body in await (await conn.execute(_NAMING, (season_id,))).fetchall():
        kept = without_player(body, user_id)
        if kept != body:
            await conn.execute(_REWRITE, (*_stored(kept), delivery_id))


def _stored(body: bytes) -> tuple[Any, ...]:
    return body, hashlib.sha256(body).digest(), len(body)


def _utc(moment: dt.datetime | None) -> dt.datetime | None:
    return None if moment is None else moment.astimezone(dt.UTC)
