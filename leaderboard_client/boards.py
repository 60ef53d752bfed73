"""Who stands where: now, within a window of time, as soon as a score is there, or as it was at any moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

from msgspec import Struct

from .connection import Connection, path_of

Ties = Literal["ordinal", "competition"]
Window = Literal["24h", "3d", "7d"]
T = TypeVar("T")


class Player(Struct, frozen=True, rename="camel", repr_omit_defaults=True):
    """Where somebody stands. 0 and "": this read does not tell it. `percentile`: so many per cent of all stand at this
    rank or behind it. `pending`: the score that the read was to wait for is still to come. `previous_rank`, with
    `movement_since`: None = not on the board then; `movement`: how many ranks higher since, None with it."""

    rank: int = 0
    score: int = 0
    user_id: str = ""
    season_id: str = ""
    percentile: float = 0
    total_players: int = 0
    pending: bool = False
    previous_rank: int | None = None
    movement: int | None = None
    as_of: datetime | None = None
    epoch: int | None = None


class Page(Struct, Generic[T], frozen=True, rename="camel", repr_omit_defaults=True):
    """Some of what there is. `next_cursor`: where those behind these begin, None = nowhere. `total_players`: of boards.
    `rank`, of around_score: where the score would stand, behind all that are as good. `pending`: as of a player."""

    items: tuple[T, ...] = ()
    next_cursor: str | None = None
    total_players: int = 0
    rank: int = 0
    pending: bool = False
    as_of: datetime | None = None
    epoch: int | None = None


class Board(TypedDict, total=False):
    """Which board. `window`: of what was reached within it; left out: of all time. `ties`: with `competition`, equal
    scores share a rank."""

    ties: Ties | None
    window: Window | None


class View(Board, total=False):
    """Which board, and as of when. `after`: the event_id of a score that is to be there before the board is read, for
    which it waits up to `wait` milliseconds, 2000 at most (left out: 1000). `as_of`: the board as it was at that
    moment; `movement_since`: with each player's rank of that one, for 100 players at most. Both with an offset
    (`tzinfo`), until now by the service's clock, and neither with `window`, `after` or a cursor."""

    after: str
    wait: int
    as_of: datetime | None
    movement_since: datetime | None


class BoardCalls(Connection):
    """Reads: all may be sent again, and are. An unknown season is an empty board."""

    async def top(
        self, season_id: str, *, limit: int = 10, offset: int = 0, cursor: str = "", **view: Unpack[View]
    ) -> Page[Player]:
        """The best, 1 to 1000 of them, behind the first `offset` or behind `cursor`. With `as_of` pages go by
        `offset`."""
        page = {"limit": limit, "offset": offset or None, "cursor": cursor}
        return await self._read(Page[Player], season_id, "top", **page, **view)

    async def rank(self, season_id: str, user_id: str, **view: Unpack[View]) -> Player | None:
        """Where the player stands; None = not on the board."""
        found = await self._read(Player, season_id, "rank", user_id=user_id, **view)
        return found if found.rank else None

    async def around(self, season_id: str, user_id: str, reach: int = 5, **view: Unpack[View]) -> Page[Player] | None:
        """The player, and up to `reach` (0 to 100) on each side, all of one moment; None = not on the board."""
        found = await self._read(Page[Player], season_id, "around", user_id=user_id, range=reach, **view)
        return found if found.items else None

    async def around_score(self, season_id: str, score: int, reach: int = 5, **view: Unpack[View]) -> Page[Player]:
        """Those around where that score would stand, and which `rank` it would have."""
        return await self._read(Page[Player], season_id, "around", score=score, range=reach, **view)

    async def ranks(self, season_id: str, user_ids: list[str], **view: Unpack[Board]) -> Page[Player]:
        """Where 1 to 1000 players stand, in the order asked for; who is not on the board is left out."""
        body = {"userIds": user_ids}
        return await self._ask(Page[Player], "POST", path_of("seasons", season_id, "/leaderboard/ranks"), body, **view)

    async def ranks_of(
        self, user_id: str, *, limit: int = 100, cursor: str = "", **view: Unpack[Board]
    ) -> Page[Player]:
        """Where one player stands in all seasons, by their ids. A page may hold fewer and still have a
        `next_cursor`."""
        path = path_of("users", user_id, "/ranks")
        return await self._ask(Page[Player], "GET", path, limit=limit, cursor=cursor, **view)

    async def _read(self, kind: type[T], season_id: str, read: str, **query: Any) -> T:
        return await self._ask(kind, "GET", path_of("seasons", season_id, f"/leaderboard/{read}"), **query)
