"""All streams of a process: how many there may be, who looks at their seasons, and the heartbeats of the quiet ones.

The hint that a season changed may be lost. So each season that is streamed is asked every second whether it did: that
bounds the age of what streams show, whatever becomes of the hints.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from api.stream import Stream
from api.stream_states import States
from api.watch import Watch
from shared.api_keys import ApiKey
from shared.errors import LeaderboardError, OverloadedError
from shared.scores import SeasonId

HEARTBEAT_SECONDS: Final = 15.0
POLL_SECONDS: Final = 0.9
"""From one poll to the next, at most: with the look that it leads to less than a second."""

log = structlog.get_logger()


class Streams:
    """Of one event loop. `holds`: whether who passed by a key, or without one, still would."""

    def __init__(
        self, states: States, most: int, clock: Callable[[], float], holds: Callable[[ApiKey | None], bool]
    ) -> None:
        self._holds = holds
        self._states = states
        self._most = most
        self._clock = clock
        self._watches: dict[SeasonId, Watch] = {}
        self._tasks: dict[SeasonId, asyncio.Task[None]] = {}
        self._count = 0
        self.hints = 0
        """Changes that were heard of, of whatever season."""

    def __len__(self) -> int:
        return self._count

    def require_room(self) -> None:
        """Raises OverloadedError where one more would be one too many."""
        if self._count >= self._most:
            raise OverloadedError(f"{self._most} streams are open here already; try again shortly")

    @contextmanager
    def joined(self, season_id: SeasonId, stream: Stream, hints: int) -> Iterator[None]:
        """While it lasts the stream is shown how things stand. `hints`: what `hints` was before the look-up of what the
        stream begins with."""
        watch = self._watches.get(season_id)
        if watch is None:
            watch = self._watches[season_id] = Watch(season_id, self._states, self._clock)
            self._tasks[season_id] = asyncio.create_task(watch.run())
        watch.streams.add(stream)
        self._count += 1
        if hints != self.hints:  # it may have been this season, and shown to those who were there by then
            watch.changed()
        try:
            yield
        finally:
            self._count -= 1
            watch.streams.discard(stream)
            if not watch.streams:
                del self._watches[season_id]
                self._tasks.pop(season_id).cancel()

    def changed(self, season_ids: Iterable[SeasonId]) -> None:
        self.hints += 1
        for season_id in season_ids:
            watch = self._watches.get(season_id)
            if watch is not None:
                watch.changed()

    def beat(self) -> None:
        """Show quiet clients that somebody is there; end the streams of keys that hold no longer."""
        now = self._clock()
        for watch in self._watches.values():
            for stream in watch.streams:
                if self._holds(stream.key):
                    stream.beat(now, HEARTBEAT_SECONDS)
                else:
                    stream.end()

    async def run(self) -> None:
        """Keep quiet streams alive, and see what changed without a hint, until cancelled."""
        while True:
            began = self._clock()
            self.beat()
            try:
                await self._poll()
            except Exception:
                log.exception("the seasons of streams were not asked whether they changed")
            pause = POLL_SECONDS * (1 - random.random() / 4)  # noqa: S311 - jitter
            await asyncio.sleep(began + pause - self._clock())

    async def _poll(self) -> None:
        watches = list(self._watches.items())
        if not watches:
            return
        try:
            versions = await self._states.versions([season_id for season_id, _ in watches])
        except LeaderboardError:
            for _, watch in watches:
                watch.changed()  # they say to their streams what is wrong
            return
        for (_, watch), version in zip(watches, versions, strict=True):
            watch.is_at(version)
