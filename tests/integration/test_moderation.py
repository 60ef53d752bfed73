"""Events voided, players hidden, shown again and erased, against brute force over what was asked for."""

from __future__ import annotations

import os
import random

import pytest
from redis.asyncio import Redis
from season_world import ModeratedWorld, told

from shared import ledger
from shared.scores import Rules
from shared.verification import Verification

RULES = [
    Rules(aggregation, order, windows, tie_break)
    for aggregation, order in (("sum", "desc"), ("best", "asc"), ("latest", "desc"))
    for windows, tie_break in ((False, "member"), (False, "earliest"), (True, "earliest"))
]


@pytest.fixture
async def raw_redis(redis, servers):
    async with Redis.from_url(servers.redis_url) as client:
        yield client


@pytest.mark.parametrize("rules", RULES, ids=told)
async def test_whatever_is_asked_for_holds_in_the_end(pool, redis, raw_redis, projection, rules):
    rng = random.Random(os.environ.get("SEED", "") + told(rules))
    voided = hidden = erased = 0
    for case in range(int(os.environ.get("CASES", "6"))):
        world = ModeratedWorld(rng, rules, f"s{case}", pool, redis, projection, raw=raw_redis)
        async with pool.connection() as conn:
            await ledger.create_seasons(conn, [world.season_id], rules)
        steps = (
            [world.score] * 6
            + [world.batch] * 3
            + [world.moderate] * 3
            + [world.loss, world.fall_back, world.fall_back, world.reset]
        )
        steps += [world.sweep, world.time] if rules.windows else []
        for _ in range(rng.randint(5, 60)):
            await rng.choice(steps)()
        await world.settle()
        while rules.windows and any((await world.settle())[1:]):
            await world.time()
        verification = Verification(pool, projection, repair=False, patience_seconds=5)
        (report,) = [report async for report in verification.run([world.season_id])]
        assert report.equal, report
        async with pool.connection() as conn:
            cursor = await conn.execute("select count(*) from outbox where status in ('pending', 'failed')")
            assert await cursor.fetchone() == (0,)
        voided, erased = voided + len(world.voided), erased + len(world.erased)
        hidden += sum(world.hidden.values())
    assert min(voided, hidden, erased) > 0
