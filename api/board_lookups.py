"""How look-ups on boards share calls to Redis: those of one turn of the event loop a pipeline, those of players of one
board a script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import msgspec
import structlog
from redis.client import NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

from api.board_scripts import PLACES
from shared import keys
from shared.batcher import Batcher
from shared.errors import RedisUnavailableError
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
"""Requests for much: bounded, so that they take neither all connections nor all the time of the event loop."""
_PER_TURN: Final = 128
"""Commands or places of such a request that are looked up before others get their turn."""

RANK_ONLY: Final = -1

_BYTES: Final = {NEVER_DECODE: True}
"""For a reply that is no text."""

log = structlog.get_logger()

Command: TypeAlias = tuple[str | int | bytes, ...]
_Work: TypeAlias = Callable[[], Awaitable[list[Any]]]
_Asked = TypeVar("_Asked")


class Call(NamedTuple):
    """A command about a season's boards."""

    season_id: SeasonId
    command: Command


class Place(NamedTuple):
    """Where a player stands, and who on `size` places on each side; `size` RANK_ONLY = nobody else. `shared`: players
    with equal scores share a place."""

    season_id: SeasonId
    window: Window | None
    user_id: UserId
    size: int
    shared: bool


class BoardLookups:
    """Raises RedisUnavailableError (503), and what a batcher does where too many wait or it takes too long.

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
        self._calls: Batcher[Call, Any] = batcher(self._call_all)
        self._places: Batcher[Place, Any] = batcher(self._look_up_places)
        self._works: Batcher[_Work, list[Any]] = Batcher(
            _do_all,
            max_batch=1,
            concurrency=_AT_ONCE,
            max_waiting=_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )
        self.call = self._calls.submit
        """What Redis answers to a command; it shares a pipeline with others of its turn."""
        self.place = self._places.submit
        """What PLACES says of a player (false: not on the board), how many there are, and how much of each member is
        its tie."""

    async def calls(self, calls: Sequence[Call]) -> list[Any]:
        """The same for each of many."""
        return await self._in_turns(calls, self._call_all)

    async def places(self, places: Sequence[Place]) -> list[Any]:
        """The same for each of many."""
        return await self._in_turns(places, self._look_up_places)

    async def _in_turns(
        self, asked: Sequence[_Asked], look_up: Callable[[Sequence[_Asked]], Awaitable[list[Any]]]
    ) -> list[Any]:
        async def work() -> list[Any]:
            found: list[Any] = []
            for first in range(0, len(asked), _PER_TURN):
                found += map(_right, await look_up(asked[first : first + _PER_TURN]))
            return found

        return await self._works.submit(work) if asked else []

    async def _call_all(self, calls: Sequence[Call]) -> list[Any]:
        return await self._replies([call.command for call in calls], [call.season_id for call in calls])

    async def _look_up_places(self, places: Sequence[Place]) -> list[Any]:
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
            commands.append(("EVAL", PLACES, 3, *keys_of(*board), msgspec.msgpack.encode(asked)))
        replies = await self._replies(commands, [board[0] for board, _ in scripts], **_BYTES)
        found: list[Any] = [None] * len(places)
        for (_, numbers), reply in zip(scripts, replies, strict=True):
            told = [reply] * len(numbers) if isinstance(reply, Exception) else _unpacked(reply, len(numbers))
            for number, place in zip(numbers, told, strict=True):
                found[number] = place
        return found

    async def _replies(self, commands: Sequence[Command], season_ids: Sequence[SeasonId], **options: Any) -> list[Any]:
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

    async def _sent(self, commands: Sequence[Command], options: dict[str, Any]) -> list[Any]:
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


def keys_of(season_id: SeasonId, window: Window | None) -> tuple[str, str, str]:
    """What the scripts of `api.board_scripts` take as KEYS."""
    return keys.board(season_id, window), keys.meta(season_id), keys.ties(season_id, window)


def _unpacked(reply: bytes, players: int) -> list[Any]:
    """What PLACES says of each player, with how many players there are, and how much of each member is its tie."""
    try:
        total, skipped, *places = msgspec.msgpack.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a member that is no text: nobody but us may write
        log.warning("look-up failed", error=f"a member is no text: {error}")
        return [_unreadable()] * players
    return [(place, total, skipped) for place in places]


def _right(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


def _unreadable() -> RedisUnavailableError:
    return RedisUnavailableError("this board can't be read at the moment; try again shortly")
