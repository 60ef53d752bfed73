"""Listening for changed seasons, so that kept answers are dropped. A hint: without it nothing is kept at all."""

from __future__ import annotations

from api.top_cache import TopCache
from shared import keys
from shared.redis_client import Client
from shared.scores import SeasonId
from shared.subscription import follow


async def follow_changes(client: Client, cache: TopCache) -> None:
    """Drop what changed from the cache until cancelled; close it while nobody can tell.

    `client` must not reconnect by itself: what was published meanwhile would be missed in silence.
    """
    await follow(
        client,
        keys.CHANGES,
        heard=lambda changed: cache.drop(map(SeasonId, changed.split("\n"))),
        opened=cache.open,
        closed=cache.close,
    )
