"""Waiting until events are visible on the boards: one statement asks for all that are waited for, and none while nobody
waits.

Waiters are futures, for those that are answered without a task (`api.direct_cycle`). How long somebody waits is theirs
to say; nobody waits for longer, whatever PostgreSQL does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import partial
from typing import Final, Literal, TypeAlias

import psycopg
import structlog

from shared import events
from shared.events import Awaited
from shared.postgres import Pool, renew_if_lost
from shared.scores import EventId, SeasonId

Word: TypeAlias = Literal["done", "pending", "failed", "unknown"]
"""done: there is nothing to wait for. pending: nothing else is known in time. failed: it will not come by itself.
unknown: the season has no such event."""

MOST: Final = 5000
"""Who waits, at most, in a process."""

_POLL_SECONDS: Final = 0.02
"""From one look to the next, whatever is heard."""

_GAP_SECONDS: Final = 0.005
"""From one look to the next, at least: a look for a thousand events takes PostgreSQL and this process 2 ms each."""

_COMMIT_SECONDS: Final = 0.003
"""From the worker's message that a board changed to its commit."""

_EAGER_SECONDS: Final = 0.02
"""For so long after a message the looks follow each other: that commit may have to wait for the disk."""

_ONE_LOOK_SECONDS: Final = 0.25
"""For who does not want to wait: for the answer of PostgreSQL."""

_MOST_UNKNOWN: Final = 100
"""Events that are not in the outbox, per look: to say that a season has none of that id takes a look-up per epoch."""

_ENDS: Final[dict[Word, Collection[str]]] = {"done": ("done", "discarded"), "failed": ("failed",)}
"""Of statuses in the outbox: those behind which nothing comes by itself."""

log = structlog.get_logger()


class Visibility:
    """Of one event loop. `looks`: how often it asked so far."""

    def __init__(self, pool: Pool, most: int = MOST) -> None:
        self._pool = pool
        self._most = most
        self._stopped = False
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._next_look = 0.0  # the timer's moment: uvloop's do not always tell
        self._not_before = self._eager_until = 0.0
        self._waiting: defaultdict[Awaited, set[asyncio.Future[Word]]] = defaultdict(set)
        self._once: set[asyncio.Future[Word]] = set()
        self._joined: set[asyncio.Future[Word]] = set()
        """Since the look that is under way began: it may have been too early for them."""
        self._seasons: set[SeasonId] = set()
        self._count = 0
        self.looks = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def wait(
        self, season_id: SeasonId, event_id: EventId, seconds: float, *, new: bool = False
    ) -> asyncio.Future[Word]:
        """To be awaited: what is known of the event once it is visible or will not be, or after so many seconds.

        0 seconds: what is known now. `new`: it was stored just now, so that it is no use to look at once. With too many
        who wait already it is pending at once.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Word] = loop.create_future()
        if self._stopped or self._count >= self._most:
            future.set_result("pending")
            return future
        timer = loop.call_later(seconds or _ONE_LOOK_SECONDS, _settle, future, "pending")
        awaited = (season_id, event_id)
        self._waiting[awaited].add(future)
        self._seasons.add(season_id)
        self._count += 1
        self._joined.add(future)
        if not seconds:
            self._once.add(future)
        future.add_done_callback(partial(self._left, awaited, timer))
        self._look_in(_POLL_SECONDS if new else 0)
        return future

    def changed(self, season_ids: Iterable[SeasonId]) -> None:
        """A worker has shown changes of these seasons, and is about to commit."""
        if self._count and not self._seasons.isdisjoint(season_ids):
            self._eager_until = asyncio.get_running_loop().time() + _EAGER_SECONDS
            self._look_in(_COMMIT_SECONDS)

    def let_go(self) -> None:
        """The process stops: nobody waits any more."""
        self._stopped = True
        self._tell(list(self._waiting), "pending")

    async def run(self) -> None:
        """Look whenever it is due, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                self._timer = None
                self._not_before = loop.time() + _GAP_SECONDS
                self._joined.clear()
                if self._waiting:
                    try:
                        await self._look(list(self._waiting))
                    except Exception:
                        log.exception("who waits for scores was not told of them")
                self._seasons = {season_id for season_id, _ in self._waiting}
                if self._waiting:
                    self._look_in(0 if loop.time() < self._eager_until else _POLL_SECONDS)
        finally:
            self.let_go()

    def _look_in(self, seconds: float) -> None:
        """Look in so many seconds, or before that."""
        loop = asyncio.get_running_loop()
        at = max(loop.time() + seconds, self._not_before)
        if self._timer is not None:
            if self._next_look <= at:
                return
            self._timer.cancel()
        self._next_look = at
        self._timer = loop.call_at(at, self._due.set)

    async def _look(self, awaited: Collection[Awaited]) -> None:
        try:
            async with self._pool.connection() as conn:
                self.looks += 1
                found = await events.statuses(conn, awaited)
                for word, statuses in _ENDS.items():
                    self._tell([event for event, status in found.items() if status in statuses], word)
                missing = [event for event in awaited if event not in found]
                last_id = await events.last_id(conn) if missing else 0
                self._tell([event for event in missing if event[1] > last_id], "unknown", but=self._joined)
                there = [event for event in missing if event[1] <= last_id]
                asked, later = there[:_MOST_UNKNOWN], there[_MOST_UNKNOWN:]
                known = await events.known(conn, asked) if asked else set()
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("nobody knows what is visible", waiting=self._count, error=str(error).strip())
            self._tell(awaited, "pending")
            await renew_if_lost(self._pool, error)
            return
        self._tell(known, "done")
        self._tell([event for event in asked if event not in known], "unknown", but=self._joined)
        unasked = {future for event in later for future in self._waiting.get(event, ())}
        for future in self._once - self._joined - unasked:
            _settle(future, "pending")

    def _tell(self, awaited: Iterable[Awaited], word: Word, *, but: Collection[asyncio.Future[Word]] = ()) -> None:
        """All who wait for these, `but` some."""
        for event in awaited:
            for future in self._waiting.get(event, ()):
                if future not in but:
                    _settle(future, word)

    def _left(self, awaited: Awaited, timer: asyncio.TimerHandle, future: asyncio.Future[Word]) -> None:
        """Nobody waits for this future any more, for whatever reason."""
        timer.cancel()
        self._count -= 1
        self._once.discard(future)
        self._joined.discard(future)
        futures = self._waiting[awaited]
        futures.discard(future)
        if not futures:
            del self._waiting[awaited]


def _settle(future: asyncio.Future[Word], word: Word) -> None:
    if not future.done():
        future.set_result(word)
