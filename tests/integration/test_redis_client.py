"""The Redis client of a process: whatever becomes of its connections is told as an error of Redis."""

from __future__ import annotations

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.redis_client import create_client


def test_a_connection_that_was_closed_under_a_command_is_told_as_lost(servers):
    """uvloop, which the processes run on, says RuntimeError."""

    async def send_on_a_closed_one():
        client = create_client(servers.redis_url, "test", timeout_seconds=5, retries=0)
        connection = client.connection_pool.make_connection()
        await connection.connect()
        connection._writer.transport.abort()
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        assert await client.ping()
        await client.aclose()

    uvloop.run(send_on_a_closed_one())
