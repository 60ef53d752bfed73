"""The Redis (or Valkey) client of a process: named, with timeouts on everything."""

from __future__ import annotations

from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.maint_notifications import MaintNotificationsConfig

Client: TypeAlias = Redis


def create_client(url: str, process: str, *, timeout_seconds: float, retries: int) -> Client:
    """A client that connects at first use; it sends a command again `retries` times when the connection broke.

    Sending twice is right only because every command of this service may be repeated: reads, and scripts fenced by
    a token (`shared.projection`). Keep it so.
    """
    client = Redis.from_url(
        url,
        protocol=3,
        decode_responses=True,
        client_name=f"leaderboard-{process}",
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), retries),
        # A handshake that neither open-source Redis nor Valkey knows; asking costs each connection a round trip.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    pool = client.connection_pool
    pool.connection_class = _telling(pool.connection_class)
    return client


def _telling(connection: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same kind of connection, but one that was closed under a command says so as redis-py's own errors do: uvloop
    says RuntimeError, which nobody takes for trouble that may pass."""

    class Telling(connection):  # type: ignore[misc,valid-type]
        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                raise RedisConnectionError(str(error)) from error

    return Telling
