"""The index on players while somebody else holds it: left alone for a while, told of when that lasts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import SimpleNamespace

import psycopg
import pytest
from conftest import unhurried_pool
from structlog.testing import capture_logs

from worker import upkeep
from worker.app import worker_connection
from worker.upkeep import PlayerIndex

_LEFT = {"event": "index on players left to who is at it", "log_level": "debug"}


@pytest.fixture
async def index(settings):
    """A worker's, which waits 20 ms for whoever is at it."""
    hasty = settings.model_copy(update={"postgres_dsn": f"{settings.postgres_dsn}?options=-c%20lock_timeout%3D20"})
    async with unhurried_pool(worker_connection(hasty), max_size=2, patience_seconds=60) as pool:
        yield PlayerIndex(pool)


@asynccontextmanager
async def held(dsn):
    """The index is somebody else's. (What a vacuum or another worker takes, no statement can take and keep.)"""
    async with await psycopg.AsyncConnection.connect(dsn) as conn:
        await conn.execute("reindex index score_events_player_idx")
        yield
        await conn.rollback()


async def still_waiting(pool):
    """Pages of rows that are not in the index yet."""
    async with pool.connection() as conn:
        cursor = await conn.execute("select gin_clean_pending_list('score_events_player_idx')")
        (pages,) = await cursor.fetchone()
    return pages


async def test_another_that_is_at_it_is_no_trouble_and_later_it_goes_on(index, dsn, pool, add):
    await add(("s", "ann", 1))
    async with held(dsn):
        with capture_logs() as lines:
            await index.run()
    assert lines == [_LEFT]
    with capture_logs() as lines:
        await index.run()
    assert lines == []
    assert await still_waiting(pool) == 0


async def test_a_minute_without_a_turn_is_told_and_one_turn_ends_it(index, dsn, monkeypatch):
    now = 0.0
    monkeypatch.setattr(upkeep, "time", SimpleNamespace(monotonic=lambda: now))
    async with held(dsn):
        await index.run()
        now = 59.0
        await index.run()
        now = 60.0
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await index.run()
    await index.run()
    async with held(dsn):
        await index.run()
