"""What a board does not say of itself is found player by player and sent again; what is right is left alone."""

from __future__ import annotations

import asyncio

import pytest

from shared import keys
from worker.scrub import Scrub
from worker.upkeep import Audit


@pytest.fixture
def scrub(pool, projection):
    return Scrub(pool, projection, 10**9, asyncio.Event())


async def wrong_score(redis):
    await redis.zadd(keys.board("s"), {"ann": 6})


async def somebody_else(redis):
    await redis.zrem(keys.board("s"), "ann")
    await redis.zadd(keys.board("s"), {"nobody": 1})


async def rotten_bits(redis):
    await redis.zrem(keys.board("s"), "ann")
    await redis.zadd(keys.board("s"), {b"\xff\xfe": 5})


async def old_copy(redis):
    """With as many players as now, and not what is noted beside it."""
    await redis.delete(keys.board("s"))
    await redis.zadd(keys.board("s"), {"ann": 1, "bob": 2})


@pytest.mark.parametrize("damage", [wrong_score, somebody_else, rotten_bits, old_copy])
async def test_what_no_number_tells_is_found_and_mended(add, drain, scrub, redis, truth, damage):
    await add(("s", "ann", 5), ("s", "bob", 7), ("other", "ann", 1))
    await drain()
    await damage(redis)
    await scrub.run()
    assert await truth() == {"s": {"ann": 5, "bob": 7}, "other": {"ann": 1}}
    await add(("s", "ann", 1))
    await drain()
    assert await truth() == {"s": {"ann": 6, "bob": 7}, "other": {"ann": 1}}


async def test_boards_that_are_right_are_not_written(add, drain, scrub, redis, pool, truth):
    await add(*(("s", f"u{number}", 1) for number in range(3000)))
    await drain()
    before = await redis.hgetall(keys.meta("s"))
    await scrub.run()
    assert await redis.hgetall(keys.meta("s")) == before
    async with pool.connection() as conn:
        tokens = await (await conn.execute("select count(distinct token) from standings")).fetchone()
    assert tokens == (6,)  # of the six batches that folded them
    assert len((await truth())["s"]) == 3000


async def test_a_board_that_is_behind_is_left_to_the_audit(add, drain, scrub, redis):
    await add(("s", "ann", 5), ("other", "ann", 1))
    await drain()
    await redis.delete(keys.board("s"))
    await redis.zadd(keys.board("other"), {"ann": 9})
    await scrub.run()
    assert not await redis.exists(keys.board("s"))
    assert await redis.zscore(keys.board("other"), "ann") == 1


async def test_a_stop_ends_the_round(add, drain, pool, projection):
    stop = asyncio.Event()
    await add(("s", "ann", 5))
    await drain()
    round_of_a_day = asyncio.create_task(Scrub(pool, projection, 1, stop).run())
    stop.set()
    await round_of_a_day


async def test_a_ledger_restored_to_before_its_last_batch(add, drain, pool, projection, scrub, redis, truth):
    """To the audit it looks like one whose last commit failed; but nothing is pending."""
    await add(("s", "ann", 5))
    await drain()
    async with pool.connection() as conn:
        before = await (await conn.execute("select token from seasons")).fetchone()
        await add(("s", "ann", 1), ("s", "bob", 1))
        await drain()
        await conn.execute("delete from score_events where delta = 1")
        await conn.execute("delete from outbox where delta = 1")
        await conn.execute("delete from standings where user_id = 'bob'")
        await conn.execute("update standings set score = 5, token = %s", before)
        await conn.execute("update seasons set token = %s", before)
    await Audit(pool, projection).run()
    assert await redis.zscore(keys.board("s"), "ann") == 6
    await scrub.run()
    assert await truth() == {"s": {"ann": 5}}


async def test_a_season_that_redis_refuses_does_not_end_the_round(add, drain, scrub, redis):
    await add(("a", "ann", 5), ("b", "ann", 1))
    await drain()
    await redis.delete(keys.board("a"))
    await redis.set(keys.board("a"), "no sorted set")
    await redis.zadd(keys.board("b"), {"ann": 9})
    await scrub.run()
    assert await redis.zscore(keys.board("b"), "ann") == 1
