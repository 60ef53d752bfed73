"""A board against its standings while batches change both: what looks wrong is looked at again under the season's lock.

Under the lock no batch is under way, so what differs is wrong, but for two cases: the board is behind (a reset that it
has not followed, a wipe that the audit has not noticed), or a batch that never committed has shown a player's event.
Such an event is still pending, so a player with one proves nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import psycopg

from shared import outbox, seasons, standings, window_minutes
from shared.board_entries import Shown, places_of
from shared.findings import Difference, Report, kind_of
from shared.postgres import Connection, Pool
from shared.projection import Projection, Stored
from shared.reconciliation import amend, fits, retried_when_late
from shared.scores import PLAIN, Rules, SeasonId, UserId
from shared.standings import Standing
from shared.windows import BOARDS

_CHUNK: Final = 2000
_RECHECK: Final = 500
"""Candidates looked at under one lock, which takes some 10 ms."""

_PAUSE_SECONDS: Final = 0.1


class UnsettledError(Exception):
    """The board can't be compared for now; the message says why."""


class BehindError(UnsettledError):
    """The board does not show what PostgreSQL committed last, or lost something. A worker's audit repairs that."""


class _Verdict(NamedTuple):
    wrong: list[Difference]
    waiting: list[UserId]


class BoardCheck:
    """Compares one season's board and notes in `report` what is wrong; with `repair` it also sends that again."""

    def __init__(
        self,
        pool: Pool,
        projection: Projection,
        report: Report,
        *,
        repair: bool,
        patience_seconds: float,
        pace: Callable[[int], Awaitable[None]],
    ) -> None:
        self._pool = pool
        self._projection = projection
        self._report = report
        self._season_id: SeasonId = report.season_id
        self._repair = repair
        self._give_up_at = time.monotonic() + patience_seconds
        self._pace = pace
        self._waiting = 0

    async def run(self) -> None:
        """Compare every standing, then look for players without one; `pace` is awaited with each number compared.

        Raises BehindError, or UnsettledError when the season stays locked or players' events stay pending.
        """
        rules = await self._require_settled()
        after = ""
        while True:
            async with self._pool.connection() as conn:
                page = await standings.page(conn, self._season_id, rules, after, _CHUNK)
            if not page:
                break
            after = page[-1].user_id
            _, found = await self._projection.look(self._season_id, rules, [row.user_id for row in page])
            suspects = [row.user_id for row, shown in zip(page, found, strict=True) if places_of(row, rules) != shown]
            await self._look_closer(suspects)
            await self._pace(len(page))
        async for members in self._projection.members(self._season_id, rules, _CHUNK):
            async with self._pool.connection() as conn:
                known = await standings.of_players(conn, self._season_id, rules, members)
            # Those with a standing or a tombstone were compared above, or came later.
            await self._look_closer([user_id for user_id in members if user_id not in known])
        self._report.board_players = await self._projection.players(self._season_id)
        if self._waiting:
            raise UnsettledError(
                f"{self._waiting} players differ, but have scores pending, or to leave a window, that a batch which "
                "never committed may have shown"
            )

    async def _require_settled(self) -> Rules:
        """A board that is behind is not worth reading player by player. Returns the season's rules."""
        async with self._pool.connection() as conn:
            fence = await seasons.fence(conn, self._season_id)
        if fence is None:
            return PLAIN
        stored, _ = await self._projection.look(self._season_id, fence.rules, [])
        if not fits(fence, stored):
            # Batches may have passed between the two: only the lock tells.
            await self._compare_under_lock([])
        return fence.rules

    async def _look_closer(self, suspects: Sequence[UserId]) -> None:
        for start in range(0, len(suspects), _RECHECK):
            waiting = list(suspects[start : start + _RECHECK])
            while waiting:
                try:
                    verdict = await retried_when_late(
                        self._pool, self._projection, partial(self._compare_under_lock, waiting)
                    )
                except UnsettledError:
                    if time.monotonic() >= self._give_up_at:
                        raise
                else:
                    for difference in verdict.wrong:
                        self._report.note(difference)
                    self._report.repaired += len(verdict.wrong) if self._repair else 0
                    waiting = verdict.waiting
                    if time.monotonic() >= self._give_up_at:
                        self._waiting += len(waiting)
                        break
                if waiting:
                    await asyncio.sleep(_PAUSE_SECONDS)

    async def _compare_under_lock(self, user_ids: list[UserId]) -> _Verdict:
        """Raises UnsettledError; with `repair` as `shared.reconciliation.amend` too."""
        try:
            async with self._pool.connection() as conn, conn.transaction():
                (fence,) = await seasons.lock(conn, [self._season_id])
                rules = fence.rules
                known = await standings.of_players(conn, self._season_id, rules, user_ids)
                stored, found = await self._projection.look(self._season_id, rules, user_ids)
                if not fits(fence, stored):
                    raise BehindError(f"the board is behind: it says {_told(stored)}, the ledger {_told(fence)}")
                wrong = [
                    difference
                    for user_id, shown in zip(user_ids, found, strict=True)
                    if (difference := _difference(user_id, known.get(user_id), rules, shown)) is not None
                ]
                pending = await self._pending(conn, wrong)
                wrong = [difference for difference in wrong if difference.user_id not in pending]
                if wrong and self._repair:
                    await self._send_again(conn, [difference.user_id for difference in wrong])
        except psycopg.errors.LockNotAvailable:
            raise UnsettledError("somebody holds the season's lock for long") from None
        return _Verdict(wrong, sorted(pending))

    async def _pending(self, conn: Connection, wrong: Sequence[Difference]) -> set[UserId]:
        """Asked under the lock: while we hold it, no event of the season ceases to be pending, and none leaves a
        window."""
        if not wrong:
            return set()
        user_ids = [difference.user_id for difference in wrong]
        leaving = await window_minutes.players_due(conn, self._season_id, user_ids)
        return leaving | await outbox.pending_players(conn, self._season_id, user_ids)

    async def _send_again(self, conn: Connection, user_ids: list[UserId]) -> None:
        # With a new token on the standings, a roll-back of Redis to what is wrong now is repaired as well.
        async def change(conn: Connection) -> list[Standing]:
            return await standings.touch_players(conn, self._season_id, user_ids)

        await amend(conn, self._projection, self._season_id, change)


def _difference(
    user_id: UserId, standing: Standing | None, rules: Rules, shown: Sequence[Shown | None]
) -> Difference | None:
    """How what the boards show of a player differs from the standing, on the first board where it does."""
    places = places_of(standing or Standing(SeasonId(""), user_id, None), rules)
    for window, expected, found in zip(BOARDS, places, shown, strict=False):
        if expected != found:
            scores = expected and expected.score, found and found.score
            return Difference(kind_of("board", *scores), user_id, *scores, window)
    return None


def _told(where: Stored | seasons.Fence) -> str:
    told = f"timeline {where.timeline}, epoch {where.epoch}, token {where.token}"
    if isinstance(where, Stored) and where.noted != where.members:
        told += f", {where.noted} entries of which {where.members} are there"
    return told
