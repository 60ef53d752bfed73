"""The sweep beside what else goes on: it dies, seasons are held or in trouble, players have thousands of minutes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import pytest
from conftest import CrashError, crashing_at
from redis.exceptions import ResponseError
from structlog.testing import capture_logs
from window_calls import expected_boards, let_pass, shown_boards

from shared import keys, ledger, window_minutes
from shared.reconciliation import SeasonsUnreachableError
from shared.scores import Rules, Score
from worker.sweep import Sweep, limit_after
from worker.upkeep import Audit

SUMS = Rules("sum", windows=True)


@pytest.fixture
def sweep(pool, projection):
    return Sweep(pool, projection, lambda _step: None)


@pytest.fixture
def due(pool, redis, drain):
    """Seasons with a player each, whose score is due to leave its first window."""

    async def make(*season_ids):
        async with pool.connection() as conn:
            await ledger.create_seasons(conn, season_ids, SUMS)
            await ledger.append(conn, [Score(season_id, "ann", 5) for season_id in season_ids])
            await drain()
            await let_pass(conn, redis, 1442)

    return make


async def shown(redis, season_id, window="24h"):
    return await redis.zcard(keys.board(season_id, window))


async def test_what_a_dead_sweep_showed_goes_though_the_next_one_comes_to_what_was_before(
    pool, redis, projection, drain, sweep
):
    """+5 leaves in the sweep that dies; −5 is due too by the next one, which comes to the standing as it is."""
    minute = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], SUMS)
        # Half an hour apart: the second is not due before time is let pass, however long the first takes.
        ages = {5: dt.timedelta(hours=23, minutes=50), -5: dt.timedelta(hours=23, minutes=20)}
        await ledger.append(conn, [Score("s", "ann", delta, occurred_at=minute - age) for delta, age in ages.items()])
        await ledger.append(conn, [Score("s", "ann", 7)])
        await drain()
        await let_pass(conn, redis, 11)
        with contextlib.suppress(CrashError):
            await Sweep(pool, projection, crashing_at("left_projected")).run()
        assert await redis.zscore(keys.board("s", "24h"), "ann") == 2
        await let_pass(conn, redis, 30)
        await sweep.run()
        assert await redis.zscore(keys.board("s", "24h"), "ann") == 7
        assert await shown_boards(conn, redis, "s") == await expected_boards(conn, "s")


async def test_a_season_that_somebody_holds_keeps_no_other_from_being_swept(pool, redis, due, sweep):
    await due("a", "b", "c")
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from seasons where season_id = 'b' for update")
        await sweep.run()
        assert [await shown(redis, season_id) for season_id in "abc"] == [0, 1, 0]
    await sweep.run()
    assert await shown(redis, "b") == 0


async def test_a_season_that_redis_refuses_keeps_no_other_from_being_swept(redis, due, sweep):
    await due("a", "b", "c")
    await redis.delete(keys.board("b", "24h"))
    await redis.set(keys.board("b", "24h"), "no sorted set")
    with pytest.raises(SeasonsUnreachableError, match="season b"):
        await sweep.run()
    assert [await shown(redis, season_id) for season_id in "ac"] == [0, 0]
    with pytest.raises(ResponseError):
        await shown(redis, "b")


async def test_a_season_that_the_database_refuses_keeps_no_other_from_being_swept(pool, redis, due, sweep):
    await due("a", "b", "c")
    async with pool.connection() as conn:
        await conn.execute("alter table standings add check (season_id <> 'b' or windows[1] is not null)")
    with pytest.raises(SeasonsUnreachableError, match="season b"):
        await sweep.run()
    assert [await shown(redis, season_id) for season_id in "abc"] == [0, 1, 0]


async def test_minutes_that_take_too_long_are_taken_in_smaller_numbers(redis, due, sweep, monkeypatch):
    await due("s")
    asked = []
    leave = window_minutes.leave

    async def slow(conn, fences, limit):
        asked.append(limit)
        if limit > 3:
            await conn.execute("set local statement_timeout = '20 ms'")
            await conn.execute("select pg_sleep(60)")
        return await leave(conn, fences, limit)

    monkeypatch.setattr(window_minutes, "leave", slow)
    await sweep.run()
    assert asked[0] > asked[1] > asked[2]
    assert await shown(redis, "s") == 0


def test_how_many_at_once_follows_how_long_they_take():
    assert limit_after(250, 0.2) == 125
    assert limit_after(1, 5.0) == 1
    assert limit_after(250, 0.05) == 250
    assert limit_after(250, 0.01) == 500
    assert limit_after(2000, 0.0) == 2000


async def test_two_sweeps_at_once_let_each_minute_leave_once(pool, redis, projection, drain):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s", "t"], SUMS)
        await ledger.append(conn, [Score(season, f"u{n}", 1) for season in "st" for n in range(600)])
        await drain()
        await let_pass(conn, redis, 1442)
    await asyncio.gather(*(Sweep(pool, projection, lambda _step: None).run() for _ in range(3)))
    assert [await shown(redis, "s"), await shown(redis, "t"), await shown(redis, "s", "3d")] == [0, 0, 600]
    async with pool.connection() as conn:
        counts = await (await conn.execute("select count(*), count(distinct user_id) from window_buckets")).fetchone()
    assert counts == (1200, 600)


async def test_a_clock_that_was_ahead_is_told_of_once(pool, projection, due):
    await due("s")
    audit = Audit(pool, projection)
    with capture_logs() as told:
        await audit.run()
        assert told == []
        async with pool.connection() as conn:
            await conn.execute("update seasons set token = token + 7200 * 1000000::bigint")
        for _ in range(2):
            with contextlib.suppress(SeasonsUnreachableError):
                await audit.run()
    (line,) = [line for line in told if "clock" in line["event"]]
    assert 7000 < line["seconds"] <= 7200
