"""Following a channel of Redis for as long as the process lives. What is published is a hint: it may be missed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from shared.backoff import backoff_seconds
from shared.redis_client import Client

_WAIT_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 3.0
"""A server that answers no ping for so long is gone, or the network dropped the connection without a word."""

log = structlog.get_logger()


async def follow(
    client: Client,
    channel: str,
    *,
    heard: Callable[[str], None],
    opened: Callable[[], None] = lambda: None,
    closed: Callable[[], None] = lambda: None,
) -> None:
    """Hand each message to `heard` until cancelled; `opened` and `closed` hear when messages begin and cease to arrive.

    `client` must not reconnect by itself: what was published meanwhile would be missed in silence.
    """
    failures = 0
    while True:
        try:
            async with client.pubsub() as messages:
                await messages.subscribe(channel)
                last = time.monotonic()
                while True:
                    _require_wanted()
                    message = await messages.get_message(timeout=_WAIT_SECONDS)
                    if message is None:
                        if time.monotonic() - last > _SILENCE_SECONDS:
                            raise RedisConnectionError(f"not a word for {_SILENCE_SECONDS:g} s")
                        await messages.ping()
                        continue
                    last = time.monotonic()
                    if message["type"] == "subscribe":
                        failures = 0
                        opened()
                    elif message["type"] == "message":
                        heard(message["data"])
        except (RedisError, OSError) as error:
            failures += 1
            if failures == 1:
                log.warning("channel not followed for now", channel=channel, error=str(error))
        finally:
            closed()
        _require_wanted()
        await asyncio.sleep(backoff_seconds(failures, random.random()))  # noqa: S311 - jitter


def _require_wanted() -> None:
    """The library may take a cancellation that comes while it connects for a failure of its own, and it is gone."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
