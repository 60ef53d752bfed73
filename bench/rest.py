"""When the service has nothing left to do of what came before: what a measurement begins with, so that it shows its own
requests and not the vacuum, snapshots and rewritten files of those in front of it."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from redis.asyncio import Redis

from bench.loading import Tell
from bench.stack import Stack

_EVERY_SECONDS: Final = 0.02
_LOOKS: Final = 5
"""At rest in a row; one alone may fall between two tables of a vacuum."""

# A poll of the workers is over sooner. Times are the server's.
_WORKING: Final = """
select coalesce(nullif(application_name, ''), backend_type)
from pg_stat_activity
where pid <> pg_backend_pid() and (backend_type = 'autovacuum worker'
  or backend_type = 'client backend' and state <> 'idle' and xact_start < clock_timestamp() - interval '20 ms')
limit 1
"""
_SAVING: Final = ("aof_rewrite_in_progress", "rdb_bgsave_in_progress")


async def at_rest(stack: Stack, patience_seconds: float, tell: Tell) -> None:
    """Return once no event is pending, PostgreSQL vacuums nothing, workers are in no transaction that lasts, and Valkey
    writes no file anew; or else after `patience_seconds`, having told what goes on."""
    await stack.drained()
    give_up_at = time.monotonic() + patience_seconds
    looks = 0
    async with Redis.from_url(stack.redis_url) as redis:
        while looks < _LOOKS:
            work = await _work(stack, redis)
            looks = 0 if work else looks + 1
            if work and time.monotonic() >= give_up_at:
                tell(f"measured beside what goes on after {patience_seconds:g} s: {work}")
                return
            await asyncio.sleep(_EVERY_SECONDS)


async def _work(stack: Stack, redis: Redis) -> str | None:
    """One thing that is under way."""
    found = await stack.ask(_WORKING)
    if found is not None:
        return str(found[0])
    saving = await redis.info("persistence")
    return next((name for name in _SAVING if saving[name]), None)
