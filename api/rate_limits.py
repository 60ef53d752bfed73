"""Rate limits per key and per player, counted in Redis for all processes together.

The generic cell rate algorithm: one time stamp per key or player, no counter that starts anew each second. All that
one turn of the event loop asks shares a pipeline. Where Redis does not answer everybody may pass: a limit that can't be
counted must not cost a score. A process that is itself overloaded refuses instead.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from api.answers import Header, rate_limit_headers
from shared.api_keys import ApiKey
from shared.batcher import Batcher
from shared.errors import RateLimitedError
from shared.redis_client import Client
from shared.scores import UserId
from shared.settings import Settings

_MAX_BATCH: Final = 512
_CONCURRENCY: Final = 4
_MAX_WAITING: Final = 20_000
_DEADLINE_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 1.0
"""So long nothing is counted after Redis did not answer: requests do not wait for it one by one."""

# KEYS[1]: of one key or player. ARGV: how many may come within how many microseconds, and how many come now. The key
# holds the moment at which all that came will have been paid off; it may lie so many microseconds ahead at most. The
# reply: how many of them may pass, how many more might, and after how many microseconds the next one may, or, where all
# of them pass, after how many all has been paid off.
_COUNT: Final = """
local told = redis.call('TIME')
local now, quota, window = told[1] * 1000000 + told[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local each, come = window / quota, tonumber(ARGV[3])
local owed = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0)
local pass = math.max(0, math.min(come, math.floor((window - owed) / each + 0.000001)))
owed = owed + pass * each
if pass > 0 then redis.call('SET', KEYS[1], string.format('%.0f', now + owed), 'PX', math.ceil(owed / 1000)) end
local after = pass == come and owed or owed + each - window
return {pass, math.max(0, math.floor((window - owed) / each + 0.000001)), math.ceil(after)}
"""

log = structlog.get_logger()


class _Limit(NamedTuple):
    """So many within so many seconds; 0 = no limit. `name`: as the headers tell it."""

    name: str
    quota: int
    seconds: int


class _Asked(NamedTuple):
    limit: _Limit
    whose: str
    come: int = 1


class _Count(NamedTuple):
    passes: int
    left: int
    microseconds: int


class RateLimits:
    """The limits of one process's settings; `close` is the owner's, as of the client."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._per_key = _Limit("key", settings.rate_limit_key_per_second, 1)
        self._per_player = _Limit("player", settings.rate_limit_player_per_minute, 60)
        self.counts_keys = self._per_key.quota > 0
        self.counts_players = self._per_player.quota > 0
        self._silent_until = 0.0
        self._batcher: Batcher[_Asked, _Count | None] = Batcher(
            self._count_all,
            max_batch=_MAX_BATCH,
            concurrency=_CONCURRENCY,
            max_waiting=_MAX_WAITING,
            deadline_seconds=_DEADLINE_SECONDS,
        )

    async def take_key(self, key: ApiKey) -> Sequence[Header]:
        """Count a request of this key; returns the headers that tell what is left. Raises RateLimitedError."""
        count = await self._count(self._per_key, key.key_id)
        if count is None:
            return ()
        if not count.passes:
            raise _refusal(self._per_key, count, "requests with this key")
        name, quota, seconds = self._per_key
        return rate_limit_headers(name, quota, seconds, count.left, _whole_seconds(count.microseconds))

    async def take_player(self, user_id: UserId) -> None:
        """Count a score of this player. Raises RateLimitedError. Not to be asked where players are not counted."""
        count = await self._count(self._per_player, user_id)
        if count is not None and not count.passes:
            raise _refusal(self._per_player, count, "scores of this player")

    async def refused_places(self, user_ids: Sequence[UserId]) -> dict[int, RateLimitedError]:
        """Count a score of each; returns the places of those that are beyond their player's limit, and why. Of a player
        the first ones pass."""
        if not self.counts_players:
            return {}
        places: defaultdict[UserId, list[int]] = defaultdict(list)
        for place, user_id in enumerate(user_ids):
            places[user_id].append(place)
        limit = self._per_player
        counts = await asyncio.gather(*[self._count(limit, whose, len(found)) for whose, found in places.items()])
        return {
            place: _refusal(limit, count, "scores of this player")
            for found, count in zip(places.values(), counts, strict=True)
            if count is not None
            for place in found[count.passes :]
        }

    async def _count(self, limit: _Limit, whose: str, come: int = 1) -> _Count | None:
        """None where Redis does not answer. Raises UnavailableError where this process has too much to do: a client
        that causes that must not pass by it."""
        if time.monotonic() < self._silent_until:
            return None
        return await self._batcher.submit(_Asked(limit, whose, come))

    async def _count_all(self, asked: list[_Asked]) -> Sequence[_Count | None]:
        pipeline = self._client.pipeline(transaction=False)
        for limit, whose, come in asked:
            pipeline.eval(_COUNT, 1, f"rate:{limit.name}:{whose}", limit.quota, limit.seconds * 1_000_000, come)
        try:
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return self._uncounted(asked, error)
        failed = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if failed is not None:
            return self._uncounted(asked, failed)
        return [_Count(*map(int, reply)) for reply in replies]

    def _uncounted(self, asked: Sequence[_Asked], error: Exception) -> list[None]:
        self._silent_until = time.monotonic() + _PAUSE_SECONDS
        log.warning("rate limits not counted", requests=len(asked), error=str(error).strip() or type(error).__name__)
        return [None] * len(asked)


def _refusal(limit: _Limit, count: _Count, of_what: str) -> RateLimitedError:
    seconds = _whole_seconds(count.microseconds)
    per = "second" if limit.seconds == 1 else "minute"
    return RateLimitedError(
        f"more than {limit.quota} {of_what} in a {per}; try again in {seconds} s",
        limit=limit.name,
        quota=limit.quota,
        window_seconds=limit.seconds,
        retry_after_seconds=seconds,
    )


def _whole_seconds(microseconds: int) -> int:
    return max(1, math.ceil(microseconds / 1_000_000))
