"""Reading boards: look-ups of one turn of the event loop share a Redis pipeline, equal ones share a reply."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import structlog
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from shared import keys
from shared.batcher import Batcher
from shared.errors import NotOnBoardError, RedisUnavailableError
from shared.redis_client import Client
from shared.scores import SeasonId, UserId
from shared.settings import ServiceSettings

_CONCURRENCY: Final = 4
_MAX_BATCH: Final = 256
_MAX_WAITING: Final = 10_000

# One script, so that rank and neighbours are of the same moment. Reply: rank of the first (from 0), then the player
# and its neighbours as member, score, …; nil when the player is not on the board.
_AROUND: Final = """
local rank = redis.call('ZREVRANK', KEYS[1], ARGV[1])
if not rank then return nil end
local first = math.max(0, rank - tonumber(ARGV[2]))
local neighbours = redis.call('ZRANGE', KEYS[1], first, rank + tonumber(ARGV[2]), 'REV', 'WITHSCORES')
table.insert(neighbours, 1, first)
return neighbours
"""

log = structlog.get_logger()


class Entry(NamedTuple):
    user_id: str
    score: int


class _Lookup(NamedTuple):
    kind: Literal["top", "rank", "around"]
    season_id: SeasonId
    user_id: UserId | Literal[""]
    size: int


class Boards:
    """What the boards in Redis show. Raises RedisUnavailableError (503), NotOnBoardError (404)."""

    def __init__(self, client: Client, settings: ServiceSettings) -> None:
        self._client = client
        self._batcher: Batcher[_Lookup, Any] = Batcher(
            self._look_up,
            max_batch=_MAX_BATCH,
            concurrency=_CONCURRENCY,
            max_waiting=_MAX_WAITING,
            deadline_seconds=settings.request_timeout_ms / 1000,
        )

    async def top(self, season_id: SeasonId, limit: int) -> list[Entry]:
        """The `limit` best players, best first; empty for an unknown season."""
        reply = await self._batcher.submit(_Lookup("top", season_id, "", limit))
        return [Entry(user_id, int(score)) for user_id, score in reply]

    async def rank(self, season_id: SeasonId, user_id: UserId) -> tuple[int, int]:
        """The player's rank, 1 = highest, and score."""
        reply = await self._batcher.submit(_Lookup("rank", season_id, user_id, 0))
        if reply is None:
            raise _not_on_board(season_id)
        rank, score = reply
        return int(rank) + 1, int(score)

    async def around(self, season_id: SeasonId, user_id: UserId, size: int) -> tuple[int, list[Entry]]:
        """The rank of the first entry, 1 = highest, and the player with up to `size` players on each side."""
        reply = await self._batcher.submit(_Lookup("around", season_id, user_id, size))
        if reply is None:
            raise _not_on_board(season_id)
        first, *flat = reply
        return first + 1, [Entry(user, int(score)) for user, score in zip(flat[::2], flat[1::2], strict=True)]

    async def _look_up(self, lookups: list[_Lookup]) -> list[Any]:
        distinct = list(dict.fromkeys(lookups))
        try:
            async with self._client.pipeline(transaction=False) as pipe:
                for lookup in distinct:
                    _add(pipe, lookup)
                replies = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            log.warning("look-up failed", lookups=len(lookups), error=str(error))
            raise RedisUnavailableError("the boards can't be read at the moment; try again shortly") from error
        outcomes: dict[_Lookup, Any] = {}
        for lookup, reply in zip(distinct, replies, strict=True):
            if isinstance(reply, RedisError):
                log.warning("look-up failed", lookup=lookup._asdict(), error=str(reply))
                reply = RedisUnavailableError("this board can't be read at the moment; try again shortly")  # noqa: PLW2901
            outcomes[lookup] = reply
        return [outcomes[lookup] for lookup in lookups]


def _add(pipe: Pipeline, lookup: _Lookup) -> None:
    board = keys.board(lookup.season_id)
    match lookup.kind:
        case "top":
            pipe.zrange(board, 0, lookup.size - 1, desc=True, withscores=True)
        case "rank":
            pipe.zrevrank(board, lookup.user_id, withscore=True)
        case "around":
            pipe.eval(_AROUND, 1, board, lookup.user_id, lookup.size)


def _not_on_board(season_id: SeasonId) -> NotOnBoardError:
    return NotOnBoardError(f"this userId is not on the board of season {season_id}")
