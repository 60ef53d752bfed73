"""What operators do to scores and players, applied: an event voided, a player hidden, shown again or erased.

Each is an event of the outbox, applied by the batch that claims it, behind the batch's scores:
under the season's lock, with its new token, in its transaction. One that is applied twice comes to the same.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias, assert_never

import psycopg

from shared import erasure, hidden_players, recounts, standings
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

_VOIDED: Final = "voided"

_LONG_SECONDS: Final = 1.0

_NOTE: Final = "update moderations set applied_at = clock_timestamp(), effect = %s where id = %s"

# What an erasure has come to so far: the number at its end goes on with each part.
_NOTE_ERASED: Final = """
update moderations set applied_at = case when %(is_all)s then clock_timestamp() end,
  effect = case when %(is_all)s then 'erased' else 'being erased' end || ', scores: '
    || %(scores)s + coalesce(substring(effect from '[0-9]+$')::bigint, 0)
where id = %(id)s
"""


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
    those that must wait for an event which another batch is applying, or that are done in part."""

    standings: list[Standing]
    failures: dict[int, str]
    too_early: list[int]


class _Done(NamedTuple):
    """`is_over`: nothing of it is left to the next batch. `standing`: what is to be shown of the player."""

    is_over: bool
    standing: Standing | None = None


class _Turn:
    """The events of one batch: what became of them."""

    def __init__(self, conn: Connection, fences: Collection[Fence]) -> None:
        self._conn = conn
        self._fences = {fence.season_id: fence for fence in fences}
        self.standings: dict[tuple[SeasonId, UserId], Standing] = {}
        self.failures: dict[int, str] = {}
        self.too_early: list[int] = []
        self._last_ended = self._began = time.monotonic()

    @property
    def is_long(self) -> bool:
        """Whether the seasons were locked for long enough; not before something was done."""
        return self._last_ended > self._began and time.monotonic() - self._began > _LONG_SECONDS

    async def void(self, voids: Sequence[Move]) -> None:
        """Of one player: who is counted once for all of them. Where that is refused, for each of them alone."""
        error = await self._attempt(voids[0], partial(self._void_all, voids))
        if error is None:
            return
        for move in voids:
            if len(voids) > 1:
                error = await self._attempt(move, partial(self._void_all, [move]))
            if error is not None:
                await self._fail(move, error)

    async def apply(self, move: Move) -> None:
        error = await self._attempt(move, partial(self._apply, move))
        if error is not None:
            await self._fail(move, error)

    def put_off(self, moves: Iterable[Move]) -> None:
        self.too_early += [move.id for move in moves]

    async def _attempt(self, move: Move, work: Callable[[], Awaitable[None]]) -> str | None:
        """Do it in a savepoint; returns why the database refuses it."""
        before = len(self.too_early)
        try:
            async with self._conn.transaction():
                await work()
        except (*REFUSED, psycopg.errors.QueryCanceled) as error:
            # Also where it takes longer than any statement may: it must not keep its neighbours from being shown.
            del self.too_early[before:]
            return str(error).strip() or f"{move.action} refused"
        finally:
            self._last_ended = time.monotonic()
        return None

    async def _fail(self, move: Move, error: str) -> None:
        self.failures[move.id] = error
        self._show(await _sent_again(self._conn, move))

    async def _void_all(self, voids: Sequence[Move]) -> None:
        fence = self._fences[voids[0].season_id]
        counts_less = False
        for move in voids:
            effect = await _voided(self._conn, move, fence)
            if effect is None:
                self.too_early.append(move.id)
                continue
            await self._conn.execute(_NOTE, (effect, move.id))
            counts_less |= effect == _VOIDED
        if counts_less:
            self._show(await recounts.recount(self._conn, fence.season_id, fence.rules, voids[0].user_id))

    async def _apply(self, move: Move) -> None:
        done = await _applied(self._conn, move, self._fences[move.season_id])
        if not done.is_over:
            self.too_early.append(move.id)
        if done.standing is not None:
            self._show(done.standing)

    def _show(self, standing: Standing) -> None:
        self.standings[standing.season_id, standing.user_id] = standing


async def apply(conn: Connection, event_ids: Sequence[int], fences: Collection[Fence]) -> Moderated:
    """Apply events that moderate; their seasons are locked and have their new tokens.

    First the voids, player by player, then the others in the order of their ids: in whichever order, the same comes of
    it. What does not fit into a second is left to the next batch, so that the seasons are not locked for long.
    """
    await conn.execute(_ALLOW_BITMAPS)
    cursor = await conn.execute(_MOVES, (list(event_ids),))
    moves = [Move(*row) for row in await cursor.fetchall()]
    of_players: defaultdict[tuple[SeasonId, UserId], list[Move]] = defaultdict(list)
    for move in moves:
        if move.action == "void":
            of_players[move.season_id, move.user_id].append(move)
    turn = _Turn(conn, fences)
    for voids in of_players.values():
        if turn.is_long:
            turn.put_off(voids)
        else:
            await turn.void(voids)
    for move in moves:
        if move.action == "void":
            continue
        if turn.is_long:
            turn.put_off([move])
        else:
            await turn.apply(move)
    return Moderated(list(turn.standings.values()), turn.failures, turn.too_early)


async def _applied(conn: Connection, move: Move, fence: Fence) -> _Done:
    match move.action:
        case "void":
            raise AssertionError("voids are applied player by player")
        case "hide" | "unhide":
            await hidden_players.renew(conn, move.season_id, move.user_id, move.id)
            await conn.execute(_NOTE, ("hidden" if move.action == "hide" else "shown", move.id))
            return _Done(True, await _sent_again(conn, move))
        case "erase":
            erased = await erasure.erase(conn, move.season_id, move.user_id, move.id)
            if erased is None:
                return _Done(False)
            await conn.execute(_NOTE_ERASED, erased._asdict() | {"id": move.id})
            await hidden_players.renew(conn, move.season_id, move.user_id, move.id)
            left = await (_what_came_later(conn, move, fence) if erased.is_all else _sent_again(conn, move))
            return _Done(erased.is_all, left)
        case _:
            assert_never(move.action)


async def _voided(conn: Connection, move: Move, fence: Fence) -> str | None:
    """Mark what is voided; returns what the audit says of it, None where it is too early."""
    key = (move.season_id, move.epoch, move.target)
    row = await (await conn.execute(_TARGET, key)).fetchone()
    if row is None:
        return "none: the event is gone"
    given_up, status = row
    if given_up:
        return "none: it did not count"
    if status in ("pending", "failed"):
        set_aside = await conn.execute(_SET_ASIDE, (move.target,))
        if not set_aside.rowcount:
            return None
    await conn.execute(_VOID, (move.requested_at, *key))
    return _VOIDED if move.epoch == fence.epoch else "voided, in an epoch that is over"


async def _what_came_later(conn: Connection, move: Move, fence: Fence) -> Standing:
    """The standing of a player who was erased: of scores that came after the wish, in this batch perhaps."""
    standing = await recounts.recount_what_fits(conn, move.season_id, fence.rules, move.user_id)
    if standing.score is None:
        await standings.forget(conn, move.season_id, move.user_id)
    return standing


async def _sent_again(conn: Connection, move: Move) -> Standing:
    (standing,) = await standings.touch_players(conn, move.season_id, [move.user_id])
    return standing
