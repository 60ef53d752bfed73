"""Listening for changed seasons: kept answers are dropped, streams look again, and so does who waits for an event. A
hint: without it nothing is kept at all, and the others look from time to time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from api.top_cache import TopCache
from shared import keys
from shared.redis_client import Client
from shared.scores import SeasonId
from shared.subscription import follow


async def follow_changes(client: Client, cache: TopCache, *changed: Callable[[Sequence[SeasonId]], None]) -> None:
    """Drop what changed from the cache, then tell each of `changed`, until cancelled; close the cache while nobody can
    tell.

    `client` must not reconnect by itself: what was published meanwhile would be missed in silence.
    """

    def heard(message: str) -> None:
        season_ids = list(map(SeasonId, message.split("\n")))
        cache.drop(season_ids)
        for tell in changed:
            tell(season_ids)

    await follow(client, keys.CHANGES, heard=heard, opened=cache.open, closed=cache.close)
