"""What streams show, looked up: the very bodies of the GETs for top and rank, shared by all who want the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from api.answers import name_of
from api.boards import Boards, Placing, Version
from api.seasons_api import rank_of, top_body
from api.stream import Board, View
from api.stream_events import State
from api.top_cache import TopCache, key_for
from shared.errors import NotOnBoardError
from shared.scores import SeasonId, UserId

_AT_ONCE: Final = 2
"""Seasons whose players' ranks are looked up beside each other; requests for many ranks have the other turns."""


class NoRank(msgspec.Struct, frozen=True, rename="camel"):
    """In the place of a rank, while the player is not on the board."""

    season_id: str
    user_id: str
    rank: None = None


class States:
    """Raises what `Boards` does."""

    def __init__(self, boards: Boards, top_cache: TopCache) -> None:
        self._boards = boards
        self._top_cache = top_cache
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def first(self, season_id: SeasonId, view: View) -> tuple[State, State | None]:
        """Top and rank for a stream that begins, at most a second old."""
        key = key_for(season_id, view.limit, *view.board)
        kept = self._top_cache.get(key)
        top = await self.top(season_id, view.board, view.limit) if kept is None else State(kept.name, kept.body)
        return top, None if view.user_id is None else await self._rank(season_id, view.board, view.user_id)

    async def top(self, season_id: SeasonId, board: Board, limit: int) -> State:
        """Looked up now, or by a look-up that is under way."""

        async def load() -> bytes:
            page = await self._boards.top(season_id, limit, window=board.window, shared=board.shared)
            return top_body(season_id, page)

        found = await self._top_cache.fetch(key_for(season_id, limit, *board), season_id, load)
        return State(found.name, found.body)

    async def ranks(self, season_id: SeasonId, board: Board, user_ids: Sequence[UserId]) -> list[State]:
        """Looked up now, a few dozen at a time."""
        async with self._turns:
            seasons = [season_id] * len(user_ids)
            places = await self._boards.ranks(seasons, user_ids, window=board.window, shared=board.shared)
        return [_state(season_id, user_id, place) for user_id, place in zip(user_ids, places, strict=True)]

    async def versions(self, season_ids: Sequence[SeasonId]) -> list[Version]:
        return await self._boards.versions(season_ids)

    async def _rank(self, season_id: SeasonId, board: Board, user_id: UserId) -> State:
        place: Placing | None
        try:
            place = await self._boards.rank(season_id, user_id, window=board.window, shared=board.shared)
        except NotOnBoardError:
            place = None
        return _state(season_id, user_id, place)


def _state(season_id: SeasonId, user_id: UserId, place: Placing | None) -> State:
    body = NoRank(season_id, user_id) if place is None else rank_of(season_id, user_id, place)
    data = msgspec.json.encode(body)
    return State(name_of(data), data)
