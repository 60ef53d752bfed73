"""Making a board equal to its standings, under the season's lock. The protocol is argued in docs/reliability.md.

Everything here runs inside a transaction that holds the season's row; what it writes to Redis is right whether that
transaction commits or not, because an aborted batch's events stay pending and are folded again.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias, TypeVar

import psycopg
import structlog
from redis.exceptions import RedisError

from shared import seasons, standings
from shared.board_entries import entries_of_a_player
from shared.postgres import Connection, Pool
from shared.projection import Answer, Projection, Stored, Update
from shared.scores import SeasonId
from shared.standings import Standing

T = TypeVar("T")

Change: TypeAlias = Callable[[Connection], Awaitable[Sequence[Standing]]]
"""What changes standings of a locked season that has its new token; returns those to send."""

_PATCH_LIMIT: Final = 5000
"""Entries that a single script may re-send; beyond that a rebuild beside the live board blocks Redis less."""

_CHUNK: Final = 5000
_TOLD: Final = 3  # seasons named in a message; a batch may have hundreds
_ATTEMPTS: Final = 5

WHAT_TO_DO: Final = (
    "if this PostgreSQL is deposed, stop what writes to it; if it was restored from a backup or copy, "
    "run: leaderboard restored"
)
"""Nothing tells the two apart: a deposed one that took over again would undo what the one that leads has shown."""

log = structlog.get_logger()


class LateError(Exception):
    """The board carries a token that is not older than ours: our locks are gone, or an aborted batch's clock ran
    ahead. The transaction must be rolled back.

    `season_ids`: all that the transaction wrote to; see `pass_late`.
    """

    def __init__(self, season_id: SeasonId, stored: Stored) -> None:
        super().__init__(f"season {season_id}: the board is ahead of this batch: {stored}")
        self.season_ids = [season_id]


class DeposedError(LateError):
    """The board was written from a later timeline or epoch, or shows a commit that this PostgreSQL does not have."""

    def __str__(self) -> str:
        return f"{super().__str__()}; {WHAT_TO_DO}"


class LargeBoardError(Exception):
    """The board must be built anew and is too large for that to be done inside a batch; `reconcile` does it."""


class SeasonsUnreachableError(Exception):
    """Some seasons of a batch can't be shown: Redis refused them, or their boards are a later PostgreSQL's, or large.

    The transaction must be rolled back; the others may be tried without them. `all_failed`: there are no others.
    """

    def __init__(self, failures: dict[SeasonId, Exception], *, all_failed: bool = True) -> None:
        told = [f"season {season_id}: {error}" for season_id, error in itertools.islice(failures.items(), _TOLD)]
        more = len(failures) - len(told)
        super().__init__("; ".join(told) + (f"; and {more} more" if more else ""))
        self.failures = failures
        self.all_failed = all_failed


def update_of(fence: seasons.Fence, token: int, changed: Sequence[Standing] = ()) -> Update:
    """What a transaction sends that locked the season with this fence and gave it the token."""
    return Update(
        fence.season_id, fence.timeline, fence.epoch, fence.token, token, changed, fence.rules, fence.patch_floor
    )


async def project(conn: Connection, projection: Projection, updates: Sequence[Update], *, rebuild_large: bool) -> None:
    """Show the updates, each under its season's lock, and repair the boards that turn out to be behind.

    `rebuild_large`: whether there is time to build boards of more than 5,000 entries anew (0.4 s per 100,000 players,
    with windows and ties four times as long), which keeps the locks of all updates meanwhile. Raises LateError,
    SeasonsUnreachableError, or RedisError when Redis answered nothing at all.
    """
    failures: dict[SeasonId, Exception] = {}
    for update, answer in zip(updates, await projection.apply(updates), strict=True):
        if isinstance(answer, RedisError):
            failures[update.season_id] = answer
            continue
        try:
            await _settle(conn, projection, update, answer, rebuild_large=rebuild_large)
        except (RedisError, DeposedError, LargeBoardError) as error:
            failures[update.season_id] = error
        except LateError as error:
            error.season_ids = [written.season_id for written in updates]
            raise
    if failures:
        raise SeasonsUnreachableError(failures, all_failed=len(failures) == len(updates))


async def reconcile(pool: Pool, projection: Projection, season_id: SeasonId) -> None:
    """Compare the season's board under its lock and make it equal: a batch without events.

    Raises as `project` does, and psycopg.OperationalError.
    """
    async with pool.connection() as conn, conn.transaction():
        for fence in await seasons.lock(conn, [season_id]):
            tokens = await seasons.advance(conn, [season_id])
            update = update_of(fence, tokens[season_id])
            try:
                await project(conn, projection, [update], rebuild_large=True)
            except LateError:
                # A batch whose clock ran ahead wrote and never committed. We hold the lock, so we may pass it.
                (answer,) = await projection.inspect([(season_id, fence.rules)])
                if isinstance(answer, RedisError):
                    raise answer from None
                if answer.stored.base > fence.token:  # the board knows a commit that this PostgreSQL lost
                    raise SeasonsUnreachableError({season_id: DeposedError(season_id, answer.stored)}) from None
                token = await seasons.advance_beyond(conn, season_id, answer.stored.token)
                await project(conn, projection, [update._replace(token=token)], rebuild_large=True)


async def pass_late(pool: Pool, projection: Projection, error: LateError) -> None:
    """After the roll-back: put the tokens of all that the refused transaction wrote to beyond what their boards carry.

    Not of the late season alone: where the clock is behind the tokens, each board may carry one that the next batch
    does not exceed either, and passing them one after the other takes two to the power of their number attempts.
    Raises as `reconcile` does, once all were tried.
    """
    failure: Exception | None = None
    for season_id in error.season_ids:
        try:
            await reconcile(pool, projection, season_id)
        except (LateError, SeasonsUnreachableError, psycopg.errors.LockNotAvailable) as reason:
            failure = reason
    if failure is not None:
        raise failure


async def amend(conn: Connection, projection: Projection, season_id: SeasonId, change: Change) -> None:
    """Change standings outside a batch, in the caller's transaction: lock the season, new token, `change`, show.

    Raises as `project` does; LateError is for `retried_when_late` to mend.
    """
    for fence in await seasons.lock(conn, [season_id]):
        tokens = await seasons.advance(conn, [season_id])
        changed = await change(conn)
        update = update_of(fence, tokens[season_id], changed)
        await project(conn, projection, [update], rebuild_large=True)


async def retried_when_late(pool: Pool, projection: Projection, attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt`, a whole transaction, returns; where a batch that never committed left a token ahead of the
    clock on the board, that is passed first."""
    for _ in range(_ATTEMPTS):
        try:
            return await attempt()
        except LateError as error:
            await pass_late(pool, projection, error)
    return await attempt()


async def rebuild(pool: Pool, projection: Projection, season_id: SeasonId, tell: Callable[[int], None]) -> int:
    """Build the season's board anew from its standings, whatever it says of itself; returns its players.

    `tell` hears how many are staged so far. Holds the season's lock meanwhile, as long as `project` says. Raises
    RedisError and psycopg.OperationalError; then the board is as it was.
    """
    async with pool.connection() as conn, conn.transaction():
        for fence in await seasons.lock(conn, [season_id]):
            token = (await seasons.advance(conn, [season_id]))[season_id]
            for _ in range(_ATTEMPTS):
                (found,) = await projection.inspect([(season_id, fence.rules)])
                if isinstance(found, RedisError):
                    raise found
                if found.stored.token >= token:
                    token = await seasons.advance_beyond(conn, season_id, found.stored.token)
                update = update_of(fence, token)
                answer, players = await _rebuild(conn, projection, update, found.stored, tell)
                if answer.verdict == "applied":
                    return players
            raise RedisError(f"season {season_id}: the board kept changing under {_ATTEMPTS} attempts to build it anew")
    return 0


def fits(fence: seasons.Fence, stored: Stored) -> bool:
    """Whether a board looked at after the fence was read needs no attention."""
    if fence.token == 0 and not any(stored):
        return True  # neither was ever written
    return (
        stored.timeline == fence.timeline
        and stored.epoch == fence.epoch
        and fence.token in (stored.token, stored.base)
        and stored.noted == stored.members
    )


async def _settle(
    conn: Connection, projection: Projection, update: Update, answer: Answer, *, rebuild_large: bool
) -> None:
    for _ in range(_ATTEMPTS):
        match answer.verdict:
            case "applied":
                return
            case "late":
                seen = answer.stored
                deposed = (seen.timeline, seen.epoch) > (update.timeline, update.epoch)
                if deposed:
                    await conn.execute("select")  # where our session was ended meanwhile we are late, not deposed
                raise (DeposedError if deposed else LateError)(update.season_id, seen)
            case "behind":
                answer = await _repair(conn, projection, update, answer.stored, rebuild_large=rebuild_large)
            case _:  # "moved": somebody wrote between the report and the repair; look again
                (again,) = await projection.apply([update])
                if isinstance(again, RedisError):
                    raise again
                answer = again
    raise RedisError(f"season {update.season_id}: the board kept changing under {_ATTEMPTS} attempts to repair it")


async def _repair(
    conn: Connection, projection: Projection, update: Update, seen: Stored, *, rebuild_large: bool
) -> Answer:
    whole = (
        seen.timeline == update.timeline
        and seen.epoch == update.epoch
        and seen.noted == seen.members
        and seen.token > 0
        and seen.base >= update.patch_floor
    )
    limit = _PATCH_LIMIT // entries_of_a_player(update.rules)
    if whole:
        changed = await standings.changed_since(
            conn, update.season_id, update.rules, epoch=update.epoch, token=seen.base, limit=limit + 1
        )
        if len(changed) <= limit:
            log.info("board patched", season_id=update.season_id, standings=len(changed), seen=seen._asdict())
            return await projection.patch(update, seen, changed)
    if not rebuild_large and await standings.exceed(conn, update.season_id, update.epoch, limit):
        raise LargeBoardError("its board is lost and large; the audit builds it anew")
    answer, _ = await _rebuild(conn, projection, update, seen)
    return answer


async def _rebuild(
    conn: Connection,
    projection: Projection,
    update: Update,
    seen: Stored,
    progress: Callable[[int], None] = lambda _staged: None,
) -> tuple[Answer, int]:
    """Build the boards anew; returns what became of it and how many players there are."""
    players = entries = 0
    try:
        size = _CHUNK // entries_of_a_player(update.rules)
        async for chunk in standings.stream(conn, update.season_id, update.rules, update.epoch, size):
            entries += await projection.stage(update, chunk)
            players += len(chunk)
            progress(players)
        answer = await projection.swap(update, seen, entries)
    except BaseException:  # Ctrl-C and the end of a worker too
        await _discard_quietly(projection, update)
        raise
    if answer.verdict != "applied":
        await _discard_quietly(projection, update)
    # A season's first batch finds no board, a reset leaves an empty one; that is no news.
    tell = log.info if update.prev > 0 and players > 0 else log.debug
    tell(
        "board rebuilt",
        season_id=update.season_id,
        players=players,
        verdict=answer.verdict,
        seen=seen._asdict(),
    )
    return answer, players


async def _discard_quietly(projection: Projection, update: Update) -> None:
    try:
        await projection.discard_staged(update)
    except RedisError as error:
        log.debug("staged board left to expire", season_id=update.season_id, error=str(error))
