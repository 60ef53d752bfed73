"""Scores of a file into the ledger, each once: what is inserted and how far the file is read are one transaction.

So whatever ends an import, at whatever moment, the next one goes on where the ledger says; and two of the same file at
once take turns, chunk by chunk. Every statement takes its caller's connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from shared import ledger
from shared.errors import ConflictError
from shared.postgres import Connection
from shared.scores import Rules, Score, SeasonId, UserId

_BEGIN: Final = """
insert into imports (season_id, epoch, digest, file) values (%s, %s, %s, %s) on conflict do nothing
"""

_ANEW: Final = """
update imports set lines = 0, scores = 0, started_at = now(), finished_at = null
where season_id = %s and epoch = %s and digest = %s and finished_at is not null
"""

_STATE: Final = """
select lines, scores, finished_at from imports where season_id = %s and epoch = %s and digest = %s
"""

_LOCK: Final = f"{_STATE} for update"

_ADVANCE: Final = """
update imports set lines = %s, scores = scores + %s where season_id = %s and epoch = %s and digest = %s
"""

_FINISH: Final = """
update imports set finished_at = coalesce(finished_at, now())
where season_id = %s and epoch = %s and digest = %s and lines >= %s
"""

_WAITING: Final = "select count(*) from (select from outbox where status = 'pending' limit %s) as waiting"

_LAST: Final = "select max(id) from score_events where season_id = %s and epoch = %s"

_UNSHOWN: Final = """
select count(*) from outbox where status = 'pending' and season_id = %s and epoch = %s and id <= %s
"""


class Import(NamedTuple):
    """A file, by its digest, into an epoch of a season with these rules."""

    season_id: SeasonId
    epoch: int
    digest: bytes
    rules: Rules


class Entry(NamedTuple):
    """A line of the file. `reached_at`: None = when it arrives."""

    line: int
    user_id: UserId
    score: int
    reached_at: dt.datetime | None


class State(NamedTuple):
    """`lines` from the file's beginning are done; of those `scores` are in the ledger."""

    lines: int
    scores: int
    finished_at: dt.datetime | None


async def begin(conn: Connection, of: Import, file: str, *, again: bool) -> State:
    """How far the file is read; a new one is noted. `again`: one that is finished begins anew."""
    await conn.execute(_BEGIN, (*of[:3], file))
    if again:
        await conn.execute(_ANEW, of[:3])
    return _state(await (await conn.execute(_STATE, of[:3])).fetchone())


async def add(conn: Connection, of: Import, entries: Sequence[Entry], after_line: int, last_line: int) -> int:
    """Add what is not in the ledger yet of the lines behind `after_line`, up to `last_line`: all of it, or nothing.
    Returns how many scores that was.

    Raises ConflictError where the season does not take it, or the file was begun anew meanwhile.
    """
    async with conn.transaction():
        state = _state(await (await conn.execute(_LOCK, of[:3])).fetchone())
        if state.lines >= last_line:
            return 0  # another import of the same file was here
        if state.lines < after_line:
            raise ConflictError("somebody began to count this file once more: leave it to that import")
        scores = [_score(of, entry) for entry in entries if entry.line > state.lines]
        if scores:
            await _append(conn, scores)
        await conn.execute(_ADVANCE, (last_line, len(scores), *of[:3]))
    return len(scores)


async def finish(conn: Connection, of: Import, lines: int) -> None:
    """Note that all of the file's lines are done."""
    await conn.execute(_FINISH, (*of[:3], lines))


async def exceed(conn: Connection, events: int) -> bool:
    """Whether more events than so many wait for a worker, of whatever season; reads no more than that."""
    return await _number(conn, _WAITING, (events + 1,)) > events


async def last_event(conn: Connection, of: Import) -> int:
    """The newest event of the season's epoch; 0 = there is none."""
    return await _number(conn, _LAST, of[:2])


async def unshown(conn: Connection, of: Import, last_event: int) -> int:
    """How many of the season's events up to that one wait for a worker."""
    return await _number(conn, _UNSHOWN, (*of[:2], last_event))


def _score(of: Import, entry: Entry) -> Score:
    """In a season that sums, points for a player; none at all are an entry too, so that the player is there."""
    absolute = of.rules.aggregation != "sum"
    return Score(
        *(of.season_id, entry.user_id, entry.score), absolute=absolute, epoch=of.epoch, occurred_at=entry.reached_at
    )


async def _append(conn: Connection, scores: Sequence[Score]) -> None:
    for outcome in await ledger.append(conn, scores):
        if isinstance(outcome, ledger.Refusal):
            raise ConflictError(_refusal(scores[0].season_id, outcome))


def _refusal(season_id: SeasonId, refusal: ledger.Refusal) -> str:
    match refusal.reason:
        case "closed":
            return f"season {season_id} is closed and takes no more scores"
        case "not_started":
            return f"season {season_id} takes no scores yet"
        case "epoch":
            return f"season {season_id} was reset meanwhile and is in epoch {refusal.epoch}: import the file anew"
        case _:
            return f"season {season_id} has other rules by now (aggregation {refusal.reason}): import the file anew"


def _state(row: Sequence[Any] | None) -> State:
    assert row is not None
    return State(*row)


async def _number(conn: Connection, statement: str, values: Sequence[object]) -> int:
    row = await (await conn.execute(statement, values)).fetchone()
    assert row is not None
    return row[0] or 0
