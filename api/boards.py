"""Reading boards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from api.board_lookups import RANK_ONLY, BoardLookups, Call, Place, keys_of
from api.board_scripts import AROUND_SCORE, TOP
from shared import keys
from shared.errors import ConflictError, InvalidRequestError, NotOnBoardError
from shared.redis_client import Client
from shared.scores import SeasonId, UserId
from shared.settings import ServiceSettings
from shared.windows import Window

Version: TypeAlias = tuple[str | None, ...]
"""Of a season's boards: another one whenever they were written to."""


class Placing(NamedTuple):
    """Where a player stands: rank 1 = best, of `total` players."""

    rank: int
    score: int
    total: int


class Players(NamedTuple):
    """Players side by side, best first: as many ranks, ids and scores."""

    ranks: Sequence[int]
    user_ids: Sequence[str]
    scores: Sequence[int]


class Behind(NamedTuple):
    """A place on a board: behind this member with this score, which need not be there any more.

    A member is a player's id, behind its tie, of so many characters as `tied`, where there are such.
    """

    score: int
    member: str
    tied: int = 0


class Page(NamedTuple):
    """Some of `total` players. `last`: the place of the last of them, None = there are no others behind it."""

    players: Players
    total: int
    last: Behind | None


class Boards:
    """What the boards in Redis show. Raises RedisUnavailableError (503), NotOnBoardError (404)."""

    def __init__(self, client: Client, settings: ServiceSettings) -> None:
        self._lookups = BoardLookups(client, settings)

    async def top(
        self,
        season_id: SeasonId,
        limit: int,
        offset: int = 0,
        behind: Behind | None = None,
        *,
        window: Window | None = None,
        shared: bool = False,
    ) -> Page:
        """The `limit` best players, or those after `offset` others or behind a place.

        Here and below, `window`: of the last hours or days, where the season has such boards, else ConflictError;
        `shared`: players with equal scores share the best rank of them (1, 2, 2, 4).
        """
        command = ("EVAL", TOP, 3, *keys_of(season_id, window), limit, offset, *(behind or ())[:2])
        *found, first, tied, total, skipped = await self._lookups.call(Call(season_id, command))
        if not total:
            await self._require_board(season_id, window)
        elif behind is not None and behind.tied != int(skipped):
            raise InvalidRequestError(
                "this cursor is of a board that broke ties otherwise; leave it out to begin anew", code="invalid_cursor"
            )
        players = _players(found, int(first), int(tied) if shared else None, int(skipped))
        more = 0 < len(players.ranks) < int(total) - int(first)
        return Page(players, int(total), Behind(players.scores[-1], found[-2], int(skipped)) if more else None)

    async def rank(
        self, season_id: SeasonId, user_id: UserId, *, window: Window | None = None, shared: bool = False
    ) -> Placing:
        place, total, _ = await self._lookups.place(Place(season_id, window, user_id, RANK_ONLY, shared))
        if not place:
            raise await self._not_on_board(season_id, window, total)
        rank, score = place
        return Placing(rank + 1, int(score), total)

    async def around(
        self, season_id: SeasonId, user_id: UserId, size: int, *, window: Window | None = None, shared: bool = False
    ) -> Players:
        """The player with up to `size` players on each side."""
        place, total, skipped = await self._lookups.place(Place(season_id, window, user_id, size, shared))
        if not place:
            raise await self._not_on_board(season_id, window, total)
        tied = place.pop() if shared else None
        first = place.pop()
        return _players(place, first, tied, skipped)

    async def around_score(
        self, season_id: SeasonId, score: int, size: int, *, window: Window | None = None, shared: bool = False
    ) -> tuple[Players, int]:
        """Up to `size` players on each side of where that score would stand, behind all that are as good, and the rank
        that it would have."""
        command = ("EVAL", AROUND_SCORE, 3, *keys_of(season_id, window), score, size)
        *found, first, tied, place, best, skipped = await self._lookups.call(Call(season_id, command))
        if not found:
            await self._require_board(season_id, window)
        players = _players(found, int(first), int(tied) if shared else None, int(skipped))
        return players, int(best if shared else place) + 1

    async def ranks(
        self,
        season_ids: Sequence[SeasonId],
        user_ids: Sequence[UserId],
        *,
        window: Window | None = None,
        shared: bool = False,
    ) -> list[Placing | None]:
        """Where each of the players stands in the season beside it; None = not on the board, or the season has no such
        board."""
        places = [
            Place(season_id, window, user_id, RANK_ONLY, shared)
            for season_id, user_id in zip(season_ids, user_ids, strict=True)
        ]

        found = await self._lookups.places(places)
        return [Placing(place[0] + 1, int(place[1]), total) if place else None for place, total, _ in found]

    async def board_size(self, season_id: SeasonId, window: Window | None) -> int:
        """How many players a board shows."""
        total = int(await self._lookups.call(Call(season_id, ("ZCARD", keys.board(season_id, window)))))
        if not total:
            await self._require_board(season_id, window)
        return total

    async def players(self, season_ids: Sequence[SeasonId]) -> list[int]:
        """How many players each of the seasons' boards of all time shows."""
        calls = [Call(season_id, ("ZCARD", keys.board(season_id))) for season_id in season_ids]
        return await self._lookups.calls(calls)

    async def versions(self, season_ids: Sequence[SeasonId]) -> list[Version]:
        """What each of the seasons' boards say of themselves, a few dozen seasons at a time."""
        calls = [
            Call(season_id, ("HMGET", keys.meta(season_id), "timeline", "epoch", "token", "count"))
            for season_id in season_ids
        ]
        return [tuple(told) for told in await self._lookups.calls(calls)]

    async def _not_on_board(self, season_id: SeasonId, window: Window | None, total: int) -> NotOnBoardError:
        if not total:
            await self._require_board(season_id, window)
        within = "" if window is None else f" of the last {window}"
        return NotOnBoardError(f"this player is not on the board{within} of season {season_id}")

    async def _require_board(self, season_id: SeasonId, window: Window | None) -> None:
        """Asked where a window's board is empty, which that of a season without windows always is."""
        if window is None:
            return
        told = await self._lookups.call(Call(season_id, ("HMGET", keys.meta(season_id), "order", "windows")))
        if told[0] is not None and told[1] != "1":
            raise ConflictError(
                f"season {season_id} has no windows: PUT it with windows true before its first score, or leave window "
                "out",
                code="windows_off",
            )


def _players(found: list[str], first: int, tied: int | None, skipped: int) -> Players:
    """Of member, score, …; `first`: the first one's place, `tied`: the one that it shares, None = places are not
    shared; `skipped`: so much of each member is its tie."""
    user_ids = [member[skipped:] for member in found[::2]] if skipped else found[::2]
    scores = list(map(int, found[1::2]))
    ranks: Sequence[int] = range(first + 1, first + 1 + len(scores))
    if tied is not None and scores:
        shared = [tied + 1]
        for rank, before, score in zip(ranks[1:], scores, scores[1:], strict=False):
            shared.append(shared[-1] if score == before else rank)
        ranks = shared
    return Players(ranks, user_ids, scores)
