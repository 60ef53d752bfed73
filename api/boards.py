"""Reading boards: look-ups of one turn of the event loop share a Redis pipeline, those of a season one script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog
from redis.client import NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

from shared import keys
from shared.batcher import Batcher
from shared.errors import NotOnBoardError, RedisUnavailableError
from shared.redis_client import Client
from shared.scores import SeasonId, UserId
from shared.settings import ServiceSettings

_CONCURRENCY: Final = 4
_MAX_BATCH: Final = 256
_MAX_WAITING: Final = 10_000
_PER_SCRIPT: Final = 64
"""Players that one script looks up: with 100 neighbours on each side it blocks Redis for some 3 ms."""

_RANK_ONLY: Final = -1

_BYTES: Final = {NEVER_DECODE: True}
"""For a reply that is no text."""

# KEYS: the board and its meta hash, which says whether the low scores are the better ones.
_ORDER: Final = """
local board, call = KEYS[1], redis.call
local ascending = call('HGET', KEYS[2], 'order') == 'asc'
"""

# ARGV: how many. The reply: player, score, …, best first.
_TOP: Final = f"""{_ORDER}
if ascending then return call('ZRANGE', board, 0, ARGV[1] - 1, 'WITHSCORES') end
return call('ZRANGE', board, 0, ARGV[1] - 1, 'REV', 'WITHSCORES')
"""

# ARGV: MessagePack of player, how many neighbours on each side, …; the reply is MessagePack too, for each player: false
# when it is not on the board, with -1 neighbours its rank (from 0) and score, else member, score, … of the neighbours
# and then the first one's rank. All of one moment. One script for many players: a command takes client and server as
# long as ten more players in it. One text in, one out: as arguments and lists of Redis' own they would take a sixth
# more.
_PLACES: Final = f"""{_ORDER}
local asked, places = cmsgpack.unpack(ARGV[1]), {{}}
local find = ascending and 'ZRANK' or 'ZREVRANK'
for i = 1, #asked, 2 do
  local player, size, place = asked[i], asked[i + 1], false
  if size < 0 then
    place = call(find, board, player, 'WITHSCORE')
  else
    local rank = call(find, board, player)
    if rank then
      local first = math.max(0, rank - size)
      if ascending then
        place = call('ZRANGE', board, first, rank + size, 'WITHSCORES')
      else
        place = call('ZRANGE', board, first, rank + size, 'REV', 'WITHSCORES')
      end
      place[#place + 1] = first
    end
  end
  places[#places + 1] = place
end
return cmsgpack.pack(places)
"""

log = structlog.get_logger()


Entry: TypeAlias = tuple[str, int]
"""A player's id and score."""


_Command: TypeAlias = tuple[str | int | bytes, ...]


class Neighbours(NamedTuple):
    """Of as many players: their ranks (1 = highest), ids and scores."""

    ranks: Iterable[int]
    user_ids: Iterable[str]
    scores: Iterable[int]


class _Top(NamedTuple):
    season_id: SeasonId
    limit: int


class _Place(NamedTuple):
    season_id: SeasonId
    user_id: UserId
    size: int


class Boards:
    """What the boards in Redis show. Raises RedisUnavailableError (503), NotOnBoardError (404)."""

    def __init__(self, client: Client, settings: ServiceSettings) -> None:
        self._client = client
        batcher = partial(
            Batcher,
            max_batch=_MAX_BATCH,
            concurrency=_CONCURRENCY,
            max_waiting=_MAX_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )
        self._tops: Batcher[_Top, Any] = batcher(self._look_up_tops)
        self._places: Batcher[_Place, Any] = batcher(self._look_up_places)

    async def top(self, season_id: SeasonId, limit: int) -> list[Entry]:
        """The `limit` best players, best first; empty for an unknown season."""
        reply = await self._tops.submit(_Top(season_id, limit))
        return list(zip(reply[::2], map(int, reply[1::2]), strict=True))

    async def rank(self, season_id: SeasonId, user_id: UserId) -> tuple[int, int]:
        """The player's rank, 1 = highest, and score."""
        reply = await self._places.submit(_Place(season_id, user_id, _RANK_ONLY))
        if not reply:
            raise _not_on_board(season_id)
        rank, score = reply
        return rank + 1, int(score)

    async def around(self, season_id: SeasonId, user_id: UserId, size: int) -> Neighbours:
        """The player with up to `size` players on each side, best first."""
        reply = await self._places.submit(_Place(season_id, user_id, size))
        if not reply:
            raise _not_on_board(season_id)
        first = reply.pop() + 1
        return Neighbours(range(first, first + len(reply) // 2), reply[::2], map(int, reply[1::2]))

    async def players(self, season_ids: Sequence[SeasonId]) -> list[int]:
        """How many players each of the boards shows."""
        if not season_ids:
            return []
        replies = await self._replies([("ZCARD", keys.board(season_id)) for season_id in season_ids], season_ids)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _look_up_tops(self, tops: list[_Top]) -> list[Any]:
        commands = [("EVAL", _TOP, 2, *_keys(top.season_id), top.limit) for top in tops]
        return await self._replies(commands, [top.season_id for top in tops])

    async def _look_up_places(self, places: list[_Place]) -> list[Any]:
        of_seasons: defaultdict[SeasonId, list[int]] = defaultdict(list)
        for number, place in enumerate(places):
            of_seasons[place.season_id].append(number)
        scripts = [
            (season_id, numbers[first : first + _PER_SCRIPT])
            for season_id, numbers in of_seasons.items()
            for first in range(0, len(numbers), _PER_SCRIPT)
        ]
        commands = []
        for season_id, numbers in scripts:
            asked: list[str | int] = []
            for number in numbers:
                asked += places[number][1:]
            commands.append(("EVAL", _PLACES, 2, *_keys(season_id), msgspec.msgpack.encode(asked)))
        replies = await self._replies(commands, [season_id for season_id, _ in scripts], **_BYTES)
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


def _keys(season_id: SeasonId) -> tuple[str, str]:
    return keys.board(season_id), keys.meta(season_id)


def _unpacked(reply: bytes, players: int) -> list[Any]:
    try:
        found: list[Any] = msgspec.msgpack.decode(reply)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # a member that is no text: nobody but us may write
        log.warning("look-up failed", error=f"a member is no text: {error}")
        return [_unreadable()] * players
    return found


def _unreadable() -> RedisUnavailableError:
    return RedisUnavailableError("this board can't be read at the moment; try again shortly")


def _not_on_board(season_id: SeasonId) -> NotOnBoardError:
    return NotOnBoardError(f"this userId is not on the board of season {season_id}")
