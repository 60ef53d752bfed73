"""What operators do to scores and players, applied: an event voided, a player hidden, shown again or erased.

Each is an event of the outbox, applied by the batch that claims it, behind the batch's scores, in the order of ids:
under the season's lock, with its new token, in its transaction. One that is applied twice comes to the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, assert_never

import psycopg

from shared import erasure, recounts, seasons, standings
from shared.postgres import REFUSED, Connection
from shared.scores import SeasonId, UserId
from shared.seasons import Fence
from shared.standings import Standing

Action: TypeAlias = Literal["void", "hide", "unhide", "erase"]

# A worker's sessions use none (worker/app.py), and a player's scores are found by nothing else.
_ALLOW_BITMAPS: Final = "set local enable_bitmapscan = on"

_MOVES: Final = """
select id, event_type, season_id, epoch, user_id, target, created_at from outbox where id = any(%s) order by id
"""

_TARGET: Final = """
select entry.discarded_at is not null or entry.voided_at is not null, event.status
from score_events as entry left join outbox as event on event.id = entry.id
where entry.season_id = %s and entry.epoch = %s and entry.id = %s
"""

# Never waited for: who holds it, a batch that is just applying it, may wait for the season that we hold.
_SET_ASIDE: Final = """
with held as materialized (
  select id from outbox where id = %s and status in ('pending', 'failed') for update skip locked
)
update outbox set status = 'discarded', processed_at = clock_timestamp() where id = any(array(select id from held))
"""

_VOID: Final = "update score_events set voided_at = %s where season_id = %s and epoch = %s and id = %s"

# By the latest of those that were applied, and this one: batches may pass by an event and apply it later.
_HIDDEN: Final = """
with latest as materialized (
  select season_id, user_id, action, requested_at from moderations
  where season_id = %s and user_id = %s and action in ('hide', 'unhide') and (applied_at is not null or id = %s)
  order by id desc limit 1
), shown as (
  delete from hidden_players where season_id = %s and user_id = %s
    and not exists (select from latest where action = 'hide')
)
insert into hidden_players (season_id, user_id, hidden_at)
select season_id, user_id, requested_at from latest where action = 'hide'
on conflict do nothing
"""

_NOTE: Final = "update moderations set applied_at = clock_timestamp(), effect = %s where id = %s"


class Move(NamedTuple):
    """An event that moderates. `epoch`: that of the event that it voids, else the season's as it came."""

    id: int
    action: Action
    season_id: SeasonId
    epoch: int
    user_id: UserId
    target: int | None
    requested_at: dt.datetime


class Moderated(NamedTuple):
    """`standings`: to be shown, each player once. `failures`: events that the database refuses, and why. `too_early`:
    those that must wait for an event which another batch is applying."""

    standings: list[Standing]
    failures: dict[int, str]
    too_early: list[int]


class _Done(NamedTuple):
    """`effect`: what the audit says of it; None = it is too early. `standing`: what is to be shown of the player."""

    effect: str | None
    standing: Standing | None = None


async def apply(conn: Connection, event_ids: Sequence[int], fences: Collection[Fence]) -> Moderated:
    """Apply events that moderate, in the order of their ids; their seasons are locked and have their new tokens."""
    await conn.execute(_ALLOW_BITMAPS)
    cursor = await conn.execute(_MOVES, (list(event_ids),))
    moves = [Move(*row) for row in await cursor.fetchall()]
    of_season = {fence.season_id: fence for fence in fences}
    shown: dict[tuple[SeasonId, UserId], Standing] = {}
    failures: dict[int, str] = {}
    too_early: list[int] = []
    for move in moves:
        fence = of_season[move.season_id]
        try:
            async with conn.transaction():
                done = await _applied(conn, move, fence)
                if done.effect is not None:
                    await conn.execute(_NOTE, (done.effect, move.id))
        except (*REFUSED, psycopg.errors.QueryCanceled) as error:
            # Also where it takes longer than any statement may: it must not keep its neighbours from being shown.
            failures[move.id] = str(error).strip()
            done = _Done("", await _sent_again(conn, move))
        if done.effect is None:
            too_early.append(move.id)
        elif done.standing is not None:
            shown[done.standing.season_id, done.standing.user_id] = done.standing
    return Moderated(list(shown.values()), failures, too_early)


async def _applied(conn: Connection, move: Move, fence: Fence) -> _Done:
    match move.action:
        case "void":
            return await _void(conn, move, fence)
        case "hide" | "unhide":
            await _hide_or_show(conn, move)
            return _Done("hidden" if move.action == "hide" else "shown", await _sent_again(conn, move))
        case "erase":
            erased = await erasure.erase(conn, move.season_id, move.user_id, move.id)
            if erased is None:
                return _Done(None)
            return _Done(f"erased, scores: {erased}", await _what_came_later(conn, move, fence))
        case _:
            assert_never(move.action)


async def _void(conn: Connection, move: Move, fence: Fence) -> _Done:
    key = (move.season_id, move.epoch, move.target)
    row = await (await conn.execute(_TARGET, key)).fetchone()
    if row is None:
        return _Done("none: the event is gone")
    given_up, status = row
    if given_up:
        return _Done("none: it did not count")
    if status in ("pending", "failed"):
        set_aside = await conn.execute(_SET_ASIDE, (move.target,))
        if not set_aside.rowcount:
            return _Done(None)
    await conn.execute(_VOID, (move.requested_at, *key))
    if move.epoch != fence.epoch:
        return _Done("voided, in an epoch that is over")
    return _Done("voided", await recounts.recount(conn, move.season_id, fence.rules, move.user_id))


async def _what_came_later(conn: Connection, move: Move, fence: Fence) -> Standing:
    """The standing of a player who was erased: of scores that came after the wish, in this batch perhaps."""
    await _hide_or_show(conn, move)
    standing = await recounts.recount(conn, move.season_id, fence.rules, move.user_id)
    if standing.score is None:
        await standings.forget(conn, move.season_id, move.user_id)
    return standing


async def _hide_or_show(conn: Connection, move: Move) -> None:
    player = (move.season_id, move.user_id)
    await conn.execute(_HIDDEN, (*player, move.id, *player))
    await seasons.note_hidden(conn, move.season_id)


async def _sent_again(conn: Connection, move: Move) -> Standing:
    (standing,) = await standings.touch_players(conn, move.season_id, [move.user_id])
    return standing
