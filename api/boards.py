"""Reading boards: look-ups of one turn of the event loop share a Redis pipeline, those of a season one script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog
from redis.client import NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

from api.board_scripts import AROUND_SCORE, PLACES, TOP
from shared import keys
from shared.batcher import Batcher
from shared.errors import ConflictError, InvalidRequestError, NotOnBoardError, RedisUnavailableError
from shared.redis_client import Client
from shared.scores import SeasonId, UserId
from shared.settings import ServiceSettings
from shared.windows import Window

_CONCURRENCY: Final = 4
_MAX_BATCH: Final = 256
_MAX_WAITING: Final = 10_000
_PER_SCRIPT: Final = 64
"""Players that one script looks up: with 100 neighbours on each side it blocks Redis for some 3 ms."""

_AT_ONCE: Final = 4
_WAITING: Final = 64
"""Requests for many places: bounded, so that they take neither all connections nor all the time of the event loop."""
_PER_TURN: Final = 128
"""Places of such a request that are looked up before others get their turn."""

_RANK_ONLY: Final = -1

_BYTES: Final = {NEVER_DECODE: True}
"""For a reply that is no text."""

log = structlog.get_logger()


_Command: TypeAlias = tuple[str | int | bytes, ...]
_Work: TypeAlias = Callable[[], Awaitable[list[Any]]]


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


class _Call(NamedTuple):
    season_id: SeasonId
    command: _Command


class _Place(NamedTuple):
    season_id: SeasonId
    window: Window | None
    user_id: UserId
    size: int
    shared: bool


class Boards:
    """What the boards in Redis show. Raises RedisUnavailableError (503), NotOnBoardError (404).

    What an endpoint awaits that is answered without a task (`api.direct_cycle`) goes by a batcher: redis-py wants one.
    """

    def __init__(self, client: Client, settings: ServiceSettings) -> None:
        self._client = client
        batcher = partial(
            Batcher,
            max_batch=_MAX_BATCH,
            concurrency=_CONCURRENCY,
            max_waiting=_MAX_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )
        self._calls: Batcher[_Call, Any] = batcher(self._call_all)
        self._places: Batcher[_Place, Any] = batcher(self._look_up_places)
        self._works: Batcher[_Work, list[Any]] = Batcher(
            _do_all,
            max_batch=1,
            concurrency=_AT_ONCE,
            max_waiting=_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )

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
        command = ("EVAL", TOP, 3, *_keys(season_id, window), limit, offset, *(behind or ())[:2])
        *found, first, tied, total, skipped = await self._calls.submit(_Call(season_id, command))
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
        place, total, _ = await self._places.submit(_Place(season_id, window, user_id, _RANK_ONLY, shared))
        if not place:
            raise await self._not_on_board(season_id, window, total)
        rank, score = place
        return Placing(rank + 1, int(score), total)

    async def around(
        self, season_id: SeasonId, user_id: UserId, size: int, *, window: Window | None = None, shared: bool = False
    ) -> Players:
        """The player with up to `size` players on each side."""
        place, total, skipped = await self._places.submit(_Place(season_id, window, user_id, size, shared))
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
        command = ("EVAL", AROUND_SCORE, 3, *_keys(season_id, window), score, size)
        *found, first, tied, place, best, skipped = await self._calls.submit(_Call(season_id, command))
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
            _Place(season_id, window, user_id, _RANK_ONLY, shared)
            for season_id, user_id in zip(season_ids, user_ids, strict=True)
        ]

        async def look_up() -> list[Any]:
            found: list[Any] = []
            for first in range(0, len(places), _PER_TURN):
                found += map(_right, await self._look_up_places(places[first : first + _PER_TURN]))
            return found

        found = await self._works.submit(look_up)
        return [Placing(place[0] + 1, int(place[1]), total) if place else None for place, total, _ in found]

    async def board_size(self, season_id: SeasonId, window: Window | None) -> int:
        """How many players a board shows."""
        total = int(await self._calls.submit(_Call(season_id, ("ZCARD", keys.board(season_id, window)))))
        if not total:
            await self._require_board(season_id, window)
        return total

    async def players(self, season_ids: Sequence[SeasonId]) -> list[int]:
        """How many players each of the seasons' boards of all time shows."""
        commands: list[_Command] = [("ZCARD", keys.board(season_id)) for season_id in season_ids]
        replies = await self._works.submit(partial(self._replies, commands, season_ids)) if commands else []
        return [_right(reply) for reply in replies]

    async def versions(self, season_ids: Sequence[SeasonId]) -> list[Version]:
        """What each of the seasons' boards say of themselves, a few dozen seasons at a time."""
        commands: list[_Command] = [
            ("HMGET", keys.meta(season_id), "timeline", "epoch", "token", "count") for season_id in season_ids
        ]

        async def look_up() -> list[Any]:
            found: list[Any] = []
            for first in range(0, len(commands), _PER_TURN):
                some = slice(first, first + _PER_TURN)
                found += map(_right, await self._replies(commands[some], season_ids[some]))
            return found

        return [tuple(told) for told in await self._works.submit(look_up)]

    async def _not_on_board(self, season_id: SeasonId, window: Window | None, total: int) -> NotOnBoardError:
        if not total:
            await self._require_board(season_id, window)
        within = "" if window is None else f" of the last {window}"
        return NotOnBoardError(f"this player is not on the board{within} of season {season_id}")

    async def _require_board(self, season_id: SeasonId, window: Window | None) -> None:
        """Asked where a window's board is empty, which that of a season without windows always is."""
        if window is None:
            return
        told = await self._calls.submit(_Call(season_id, ("HMGET", keys.meta(season_id), "order", "windows")))
        if told[0] is not None and told[1] != "1":
            raise ConflictError(
                f"season {season_id} has no windows: PUT it with windows true before its first score, or leave window "
                "out",
                code="windows_off",
            )

    async def _call_all(self, calls: list[_Call]) -> list[Any]:
        return await self._replies([call.command for call in calls], [call.season_id for call in calls])

    async def _look_up_places(self, places: list[_Place]) -> list[Any]:
        of_boards: defaultdict[tuple[SeasonId, Window | None], list[int]] = defaultdict(list)
        for number, place in enumerate(places):
            of_boards[place[:2]].append(number)
        scripts = [
            (board, numbers[first : first + _PER_SCRIPT])
            for board, numbers in of_boards.items()
            for first in range(0, len(numbers), _PER_SCRIPT)
        ]
        commands = []
        for board, numbers in scripts:
            asked: list[str | int | bool] = []
            for number in numbers:
                asked += places[number][2:]
            commands.append(("EVAL", PLACES, 3, *_keys(*board), msgspec.msgpack.encode(asked)))
        replies = await self._replies(commands, [board[0] for board, _ in scripts], **_BYTES)
        found: list[Any] = [None] * len(places)
        for (_, numbers), reply in zip(scripts, replies, strict=True):
            told = [reply] * len(numbers) if isinstance(reply, Exception) else _unpacked(reply, len(numbers))
            for number, place in zip(numbers, told, strict=True):
                found[number] = place
        return found

    async def _replies(self, commands: Sequence[_Command], season_ids: Sequence[SeasonId], **options: Any) -> list[Any]:
        """What the commands, one for each of the seasons, were answered; a refused one has its error there."""
        try:
            replies = await self._sent(commands, options)
        except (RedisError, OSError) as error:
            log.warning("look-up failed", seasons=len(season_ids), error=str(error))
            raise RedisUnavailableError("the boards can't be read at the moment; try again shortly") from error
        for number, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                log.warning("look-up failed", season_id=season_ids[number], error=str(reply))
                replies[number] = _unreadable()
        return replies

    async def _sent(self, commands: Sequence[_Command], options: dict[str, Any]) -> list[Any]:
        if len(commands) == 1:  # a pipeline of one takes the client half as long again
            try:
                return [await self._client.execute_command(*commands[0], **options)]  # type: ignore[no-untyped-call]
            except ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command, **options)
            return await pipe.execute(raise_on_error=False)


async def _do_all(works: list[_Work]) -> list[list[Any]]:
    return [await work() for work in works]


def _keys(season_id: SeasonId, window: Window | None) -> tuple[str, str, str]:
    return keys.board(season_id, window), keys.meta(season_id), keys.ties(season_id, window)


def _unpacked(reply: bytes, players: int) -> list[Any]:
    """What PLACES says of each player, with how many players there are, and how much of each member is its tie."""
    try:
        total, skipped, *places = msgspec.msgpack.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a member that is no text: nobody but us may write
        log.warning("look-up failed", error=f"a member is no text: {error}")
        return [_unreadable()] * players
    return [(place, total, skipped) for place in places]


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


def _right(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


def _unreadable() -> RedisUnavailableError:
    return RedisUnavailableError("this board can't be read at the moment; try again shortly")
