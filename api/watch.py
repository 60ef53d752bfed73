"""One season, looked at for all of its streams together, soon after it changed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeAlias

import structlog

from api.boards import Version
from api.stream import Board, Stream
from api.stream_events import State, comment
from api.stream_states import States
from shared.errors import ConflictError, LeaderboardError
from shared.scores import SeasonId, UserId

COALESCE_SECONDS: Final = 0.1
"""From the beginning of a look to that of the next one: what changes meanwhile is shown together."""

_SHARE: Final = 3
"""Of the time that looks take, so much passes between them: the process has others to serve."""

_PER_TURN: Final = 100
"""Streams that are written to before others get their turn."""

TROUBLE: Final = comment(b" the board can't be read at the moment")

_Found: TypeAlias = State | LeaderboardError
_Tops: TypeAlias = dict[tuple[Board, int], _Found]
_Ranks: TypeAlias = dict[tuple[Board, UserId], _Found]

log = structlog.get_logger()


def next_look(began: float, ended: float) -> float:
    """When the next look may begin after one that took so long."""
    return max(began + COALESCE_SECONDS, ended + _SHARE * (ended - began))


class Watch:
    """`run` until cancelled."""

    def __init__(self, season_id: SeasonId, states: States, clock: Callable[[], float]) -> None:
        self._season_id = season_id
        self._states = states
        self._clock = clock
        self._changed = asyncio.Event()
        self._version: Version | None = None
        """Which one was looked at, None = a look at it failed, or there was none."""
        self._troubled = False
        self.streams: set[Stream] = set()

    def changed(self) -> None:
        """Look again, as soon as it may be."""
        self._changed.set()

    def is_at(self, version: Version) -> None:
        """This is what the season's boards say of themselves now: look again unless they said so before."""
        if version != self._version:
            self._version = version
            self.changed()

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._clock()
            try:
                await self._look(began)
            except Exception:
                log.exception("streams were not shown how things stand", season_id=self._season_id)
                self._troubled = True
            if self._troubled:
                self._version = None
            await asyncio.sleep(next_look(began, self._clock()) - self._clock())

    async def _look(self, began: float) -> None:
        tops, ranks = await self._found()
        troubled = False
        for number, stream in enumerate(tuple(self.streams), 1):
            view = stream.view
            top = tops.get((view.board, view.limit))
            rank = None if view.user_id is None else ranks.get((view.board, view.user_id))
            # What it began with is newer than this look, which knows nothing of it.
            if stream.as_of > began or top is None or (rank is None) is not (view.user_id is None):
                continue
            if isinstance(top, State) and not isinstance(rank, LeaderboardError):
                stream.show(top, rank, self._clock())
            elif isinstance(top, ConflictError):
                stream.end()  # the season has no such board any more: asking anew says so
            else:
                troubled = True
                if not self._troubled:
                    stream.say(TROUBLE, self._clock())
            if number % _PER_TURN == 0:
                await asyncio.sleep(0)
        self._troubled = troubled

    async def _found(self) -> tuple[_Tops, _Ranks]:
        """Each thing that some stream shows, looked up once."""
        views = [stream.view for stream in self.streams]
        players: defaultdict[Board, set[UserId]] = defaultdict(set)
        for view in views:
            if view.user_id is not None:
                players[view.board].add(view.user_id)
        return await asyncio.gather(
            self._tops({(view.board, view.limit) for view in views}),
            self._ranks({board: list(user_ids) for board, user_ids in players.items()}),
        )

    async def _tops(self, wanted: Collection[tuple[Board, int]]) -> _Tops:
        found = await asyncio.gather(*(self._top(*top) for top in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _top(self, board: Board, limit: int) -> _Found:
        try:
            return await self._states.top(self._season_id, board, limit)
        except LeaderboardError as error:
            return error

    async def _ranks(self, players: Mapping[Board, Sequence[UserId]]) -> _Ranks:
        found: _Ranks = {}
        for board, user_ids in players.items():
            states: Sequence[_Found]
            try:
                states = await self._states.ranks(self._season_id, board, user_ids)
            except LeaderboardError as error:
                states = [error] * len(user_ids)
            found.update(((board, user_id), state) for user_id, state in zip(user_ids, states, strict=True))
        return found
