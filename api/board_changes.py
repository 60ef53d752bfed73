"""Listening for changed seasons, so that kept answers are dropped. A hint: without it nothing is kept at all."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from api.top_cache import TopCache
from shared import keys
from shared.backoff import backoff_seconds
from shared.redis_client import Client
from shared.scores import SeasonId

_WAIT_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 3.0
"""A server that answers no ping for so long is gone, or the network dropped the connection without a word."""

log = structlog.get_logger()


async def follow_changes(client: Client, cache: TopCache) -> None:
    """Drop what changed from the cache until cancelled; close it while nobody can tell.

    `client` must not reconnect by itself: what was published meanwhile would be missed in silence.
    """
    failures = 0
    while True:
        try:
            async with client.pubsub() as changes:
                await changes.subscribe(keys.CHANGES)
                heard = time.monotonic()
                while True:
                    message = await changes.get_message(timeout=_WAIT_SECONDS)
                    if message is None:
                        if time.monotonic() - heard > _SILENCE_SECONDS:
                            raise RedisConnectionError(f"not a word for {_SILENCE_SECONDS:g} s")
                        await changes.ping()
                        continue
                    heard = time.monotonic()
                    if message["type"] == "pong":
                        continue
                    if message["type"] == "subscribe":
                        failures = 0
                        cache.open()
                    else:
                        cache.drop(map(SeasonId, message["data"].split("\n")))
        except (RedisError, OSError) as error:
            failures += 1
            if failures == 1:
                log.warning("changes not followed, answers are not kept", error=str(error))
        finally:
            cache.close()
        await asyncio.sleep(backoff_seconds(failures, random.random()))  # noqa: S311 - jitter
