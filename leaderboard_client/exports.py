"""A season's whole board, best first, of one moment, player by player as it comes: no more than a part is in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

import httpx2
from msgspec import Struct, json

from .boards import Window
from .connection import Connection, LeaderboardError, path_of
from .seasons import Aggregation, Order, TieBreak


class About(Struct, frozen=True, kw_only=True, rename="camel"):
    """What board it is, of when and by which rules. `window` None: of all time. `players`: how many follow."""

    season_id: str
    epoch: int
    exported_at: datetime
    window: Window | None
    players: int
    aggregation: Aggregation
    order: Order
    windows: bool
    tie_break: TieBreak


class Place(Struct, frozen=True, rename="camel"):
    """`reached_at`: when the score was reached; None in seasons without windows that break ties by ids."""

    rank: int
    user_id: str
    score: int
    reached_at: datetime | None = None


_PLACES = json.Decoder(Place)


class Export:
    """`async for place in export`, once. Raises LeaderboardError, code `cut`, where it ends before its end: whatever
    came until then is no whole board."""

    def __init__(self, about: About, places: AsyncIterator[Place]) -> None:
        self.about = about
        self._places = places

    def __aiter__(self) -> AsyncIterator[Place]:
        return self._places


class ExportCalls(Connection):
    @asynccontextmanager
    async def export(
        self, season_id: str, *, window: Window | None = None, silence_seconds: float = 120
    ) -> AsyncIterator[Export]:
        """`async with board.export("s") as export`: the board as PostgreSQL has it, hidden players left out.

        Needs a key with the scope admin, where there are keys. `silence_seconds`: the longest pause, also of the
        beginning, when millions are sorted. Take what comes: after 10 s the service waits no longer, and after 10 min
        it ends. Until it has begun it is asked for again as every read is; what was cut is not, since players were
        given.

        Raises LeaderboardError: 404 `season_not_found`, 409 `windows_off`, 503 `overloaded` where two are under way.
        """
        path = path_of("seasons", season_id, "/leaderboard/export")
        response = await self._open(path, {"format": "ndjson", "window": window}, silence_seconds)
        try:
            async with aclosing(_whole_lines(response)) as lines:
                head, _, first = (await anext(lines, b"")).partition(b"\n")
                about = _about_in(head)
                async with aclosing(_places_in(about, first, lines)) as places:
                    yield Export(about, places)
        finally:
            await response.aclose()


async def _whole_lines(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """By their ends and nothing else: a user id may hold what Python takes for the end of a line."""
    rest = b""
    try:
        async for part in response.aiter_bytes():
            lines, end, rest = (rest + part).rpartition(b"\n")
            if end:
                yield lines + end
    except httpx2.RequestError as error:
        raise LeaderboardError(200, "cut", f"the export ended before its end: {error!r}") from error


def _decoded(lines: bytes) -> list[Place]:
    try:
        return _PLACES.decode_lines(lines)
    except ValueError as error:
        raise LeaderboardError(200, "not_understood", str(error)) from error


def _about_in(line: bytes) -> About:
    try:
        return json.decode(line, type=About)
    except ValueError as error:
        raise LeaderboardError(200, "not_understood", str(error)) from error


async def _places_in(about: About, first: bytes, lines: AsyncIterator[bytes]) -> AsyncGenerator[Place]:
    left = about.players
    part: bytes | None = first
    while part is not None:
        places = _decoded(part)
        left -= len(places)
        for place in places:
            yield place
        part = await anext(lines, None)
    if left:
        raise LeaderboardError(200, "cut", f"the export ended {left} players before its end")
