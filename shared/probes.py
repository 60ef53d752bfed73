"""Whether the servers behind a process answer, for the readiness endpoints of api and worker."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec
import psycopg
from redis.exceptions import RedisError

from shared.deadline import within
from shared.postgres import Pool
from shared.redis_client import Client
from shared.revision import schema_state

_PROBE_SECONDS: Final = 1.0

Part = Literal["ok", "down", "missing", "unknown"]


class Readiness(msgspec.Struct, frozen=True):
    """The body of /readyz."""

    status: Literal["ready", "not_ready"]
    redis: Part
    postgres: Part
    schema: Part


async def probe(pool: Pool, client: Client) -> Readiness:
    """Ask both servers, each within a second. `schema` is unknown while PostgreSQL is down, missing when not ours."""
    redis, (postgres, schema) = await asyncio.gather(_probe_redis(client), _probe_postgres(pool))
    ready = redis == postgres == schema == "ok"
    return Readiness("ready" if ready else "not_ready", redis, postgres, schema)


async def _probe_redis(client: Client) -> Part:
    async def ask() -> Part:
        await client.ping()
        return "ok"

    try:
        return await within(_PROBE_SECONDS, ask())
    except (RedisError, OSError, TimeoutError):
        return "down"


async def _probe_postgres(pool: Pool) -> tuple[Part, Part]:
    async def ask() -> tuple[Part, Part]:
        async with pool.connection() as conn:
            return "ok", await schema_state(conn)

    try:
        return await within(_PROBE_SECONDS, ask())
    except (psycopg.Error, OSError, TimeoutError):
        return "down", "unknown"
