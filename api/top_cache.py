"""Encoded answers for top-N, kept in this process until their season changes. No read is older than a second.

Dropped when the worker says that the season changed; kept only while somebody listens for that. On a quiet board an
answer costs no more than sending it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.types import Scope

from api.answers import TaggedAnswer
from shared.scores import SeasonId
from shared.windows import Window

_MAX_AGE_SECONDS: Final = 1.0
"""Bounds the age of an answer whatever happens to the messages that should have dropped it."""

_MAX_BYTES: Final = 32 * 1024 * 1024

_ENTRY_BYTES: Final = 1000
"""What an entry costs beside its body: key, headers, places in three dicts."""

_PLAIN_QUERY: Final = re.compile(rb"|limit=[1-9][0-9]{0,3}(?:&ties=competition)?|ties=competition")

Key: TypeAlias = tuple[str, bytes]
"""Path and query string, as the client sent them."""


def key_of(scope: Scope) -> Key | None:
    """The key of a request whose answer may be kept.

    None for a query that is written in another way than every client does: a board has two thousand keys at most,
    whatever is sent.
    """
    query: bytes = scope["query_string"]
    return (scope["path"], query) if _PLAIN_QUERY.fullmatch(query) else None


def key_for(season_id: SeasonId, limit: int, window: Window | None, shared: bool) -> Key:
    """The key of the answer to these parameters, written as most clients write them; windows have keys only here."""
    query = f"limit={limit}{'&ties=competition' if shared else ''}{'' if window is None else f'&window={window}'}"
    return f"/v1/seasons/{season_id}/leaderboard/top", query.encode()


@dataclass(slots=True)
class _Kept:
    season_id: SeasonId
    answer: TaggedAnswer
    stale_at: float


@dataclass(slots=True)
class _Flight:
    """A look-up under way, shared by all who ask for the same meanwhile."""

    season_id: SeasonId
    task: asyncio.Task[TaggedAnswer]
    started: float


class TopCache:
    """Of one event loop. It starts closed: nothing is kept until `open` is called."""

    def __init__(self) -> None:
        self._open = False
        self._hits = self._misses = 0
        self._bytes = 0
        self._kept: dict[Key, _Kept] = {}
        self._flights: dict[Key, _Flight] = {}
        self._keys: defaultdict[SeasonId, set[Key]] = defaultdict(set)

    def get(self, key: Key) -> TaggedAnswer | None:
        """A kept answer, None where there is none or it is a second old."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.stale_at <= time.monotonic():
            self._unlist(key, kept.season_id)
            self._forget(key)
            return None
        self._hits += 1
        return kept.answer

    async def find(self, key: Key | None, season_id: SeasonId, load: Callable[[], Awaitable[bytes]]) -> TaggedAnswer:
        """The kept answer, else as `fetch`."""
        kept = None if key is None else self.get(key)
        return await self.fetch(key, season_id, load) if kept is None else kept

    async def fetch(self, key: Key | None, season_id: SeasonId, load: Callable[[], Awaitable[bytes]]) -> TaggedAnswer:
        """The answer whose body `load` returns, called once for all who ask at the same time, whatever is kept. Raises
        what it raises."""
        if key is None:
            return TaggedAnswer(await load())
        self._misses += 1
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(season_id, asyncio.ensure_future(_tagged(load)), time.monotonic())
            self._flights[key] = flight
            self._keys[season_id].add(key)
            flight.task.add_done_callback(lambda _task: self._landed(key, flight))
        return await asyncio.shield(flight.task)

    def lookups_since_last_time(self) -> dict[str, int]:
        """How many found a kept answer, and how many did not where one could have been kept."""
        found = {"hit": self._hits, "miss": self._misses}
        self._hits = self._misses = 0
        return found

    def drop(self, season_ids: Iterable[SeasonId]) -> None:
        """The seasons changed: forget their answers; look-ups under way may be from before, so they are not kept."""
        for season_id in season_ids:
            for key in self._keys.pop(season_id, ()):
                self._flights.pop(key, None)
                self._forget(key)

    def open(self) -> None:
        """Somebody listens for changes from now on."""
        self.close()
        self._open = True

    def close(self) -> None:
        """Nobody listens: forget everything and keep nothing."""
        self._open = False
        self.drop(tuple(self._keys))

    def _landed(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is not flight:
            return  # the season changed meanwhile
        del self._flights[key]
        if flight.task.cancelled() or flight.task.exception() is not None or not self._open:
            self._unlist(key, flight.season_id)
            self._forget(key)
            return
        answer = flight.task.result()
        self._forget(key)  # were it looked up although an answer is kept, the count of bytes must stay right
        self._kept[key] = _Kept(flight.season_id, answer, flight.started + _MAX_AGE_SECONDS)
        self._bytes += len(answer.body) + _ENTRY_BYTES
        while self._bytes > _MAX_BYTES:
            oldest = next(iter(self._kept))
            self._unlist(oldest, self._kept[oldest].season_id)
            self._forget(oldest)

    def _forget(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.answer.body) + _ENTRY_BYTES

    def _unlist(self, key: Key, season_id: SeasonId) -> None:
        keys = self._keys[season_id]
        keys.discard(key)
        if not keys:
            del self._keys[season_id]


async def _tagged(load: Callable[[], Awaitable[bytes]]) -> TaggedAnswer:
    return TaggedAnswer(await load())
