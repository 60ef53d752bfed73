"""The fence against real servers: late scripts, scripts sent twice, clocks that step, deposed primaries."""

from __future__ import annotations

import psycopg
import pytest
import redis as redis_sync
from conftest import CrashError, crashing_at

from shared import keys, seasons
from shared.projection import Projection, Update
from shared.reconciliation import DeposedError, LateError, SeasonsUnreachableError, pass_late, reconcile
from shared.standings import Standing
from worker.batch import BatchApplier
from worker.upkeep import Audit


async def test_a_late_script_is_refused(add, drain, pool, projection, redis, truth):
    """A worker is stopped before it sends, its session ends, another goes on; then the old script arrives."""
    await add(("s", "ann", 5))
    async with pool.connection() as conn:
        (fence,) = await seasons.lock(conn, ["s"])
    late = Update("s", fence.timeline, fence.epoch, fence.token, fence.token + 1, [Standing("s", "ann", 999)])
    await drain()
    (answer,) = await projection.apply([late])
    assert answer.verdict == "late"
    assert await truth() == {"s": {"ann": 5}}
    assert await redis.exists(keys.meta("s"))


async def test_a_script_sent_twice_is_refused_the_second_time(add, pool, projection, drain, truth):
    """A lost reply makes the client send again: the batch is put off, the totals stay right."""

    class Twice(Projection):
        async def apply(self, updates):
            await super().apply(updates)
            return await super().apply(updates)

    await add(("s", "ann", 5))
    await drain()
    await add(("s", "ann", 5))
    with pytest.raises(LateError):
        await BatchApplier(pool, Twice(projection._client), 500, lambda _step: None).apply(floor=0, paused=[])
    await drain()
    assert await truth() == {"s": {"ann": 10}}


async def test_a_clock_that_ran_ahead_does_not_stop_the_season(add, pool, projection, redis, drain, truth):
    """A batch with a token of tomorrow wrote and never committed; the next ones must pass it."""
    await add(("s", "ann", 5))
    await drain()
    stored = await redis.hget(keys.meta("s"), "token")
    await redis.hset(keys.meta("s"), "token", int(stored) + 86_400_000_000)
    await add(("s", "ann", 1))
    with pytest.raises(LateError):
        await drain()
    await reconcile(pool, projection, "s")
    await drain()
    assert await truth() == {"s": {"ann": 6}}


async def settle(applier, pool, projection):
    """What the loop does: batches until nothing is pending, a late season put right, then an audit."""
    while True:
        try:
            if not (await applier.apply(floor=0, paused=[])).events:
                break
        except LateError as error:
            await pass_late(pool, projection, error)
    await Audit(pool, projection).run()


@pytest.mark.parametrize("ahead_seconds", [3600, 0.05])
@pytest.mark.parametrize("batches_meanwhile", [1, 2])
async def test_a_late_script_of_a_clock_that_was_ahead(
    add, applier, pool, projection, truth, monkeypatch, ahead_seconds, batches_meanwhile
):
    """A worker takes its token while the clock is ahead and stalls; the clock is set right, its session ends, others
    commit more; then its script arrives, with a token newer than theirs."""
    sent = []

    class Stalled(Projection):
        async def apply(self, updates):
            sent.extend(updates)
            raise CrashError

    await add(("s", "ann", 5))
    await settle(applier, pool, projection)
    await add(("s", "ann", 1))
    with monkeypatch.context() as ahead:
        micros = int(ahead_seconds * 1_000_000)
        ahead.setattr(seasons, "_ADVANCE", seasons._ADVANCE.replace("* 1000000)", f"* 1000000 + {micros})"))
        with pytest.raises(CrashError):
            await BatchApplier(pool, Stalled(projection._client), 500, lambda _step: None).apply(floor=0, paused=[])
    for _ in range(batches_meanwhile):
        await add(("s", "ann", 10))
        await settle(applier, pool, projection)
    await projection.apply(sent)
    await settle(applier, pool, projection)
    assert await truth() == {"s": {"ann": 6 + 10 * batches_meanwhile}}
    await add(("s", "bob", 1))
    await settle(applier, pool, projection)
    assert await truth() == {"s": {"ann": 6 + 10 * batches_meanwhile, "bob": 1}}


async def test_tokens_of_a_clock_that_stands_still_are_not_repeated(add, pool):
    await add(("s", "ann", 1))
    async with pool.connection() as conn:
        await conn.execute("update seasons set token = 9000000000000000")
        tokens = set()
        for _ in range(20):
            async with conn.transaction(force_rollback=True):
                tokens.add((await seasons.advance(conn, ["s"]))["s"])
    assert len(tokens) > 10
    assert min(tokens) > 9_000_000_000_000_000


async def test_a_deposed_primary_is_refused(add, pool, projection, redis, drain):
    """Redis was written from a later timeline: this PostgreSQL was replaced by its replica."""
    await add(("s", "ann", 5))
    await drain()
    await redis.hincrby(keys.meta("s"), "timeline", 1)
    await add(("s", "ann", 1))
    for attempt in (drain(), reconcile(pool, projection, "s")):
        with pytest.raises(SeasonsUnreachableError) as refused:
            await attempt
        assert isinstance(refused.value.failures["s"], DeposedError)
    assert await redis.zscore(keys.board("s"), "ann") == 5


async def test_a_clock_behind_the_tokens_of_many_seasons_stops_none_of_them(
    add, applier, pool, projection, drain, truth
):
    """An aborted batch has left a token of chance on each board; the next one must not trip over them one by one."""
    scores = [(f"s{number}", "ann", 1) for number in range(40)]
    await add(*scores)
    await drain()
    async with pool.connection() as conn:
        await conn.execute("update seasons set token = token + 86400000000")
    await Audit(pool, projection).run()
    await add(*scores)
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    turns = 0
    while True:
        turns += 1
        try:
            if not (await applier.apply(floor=0, paused=[])).events:
                break
        except LateError as error:
            await pass_late(pool, projection, error)
    assert turns <= 3
    assert await truth() == {season_id: {"ann": 2} for season_id, _, _ in scores}


async def test_who_lost_its_session_before_a_reset_is_late_and_not_deposed(
    add, drain, dsn, pool, projection, servers, truth
):
    """Else every such worker would tell its operators that PostgreSQL was restored."""
    await add(("s", "ann", 5))
    await drain()
    await add(("s", "ann", 1))

    def reset_meanwhile(step):
        if step == "folded":
            with psycopg.connect(dsn, autocommit=True) as conn:
                mine = "application_name = 'leaderboard-worker' and state = 'idle in transaction'"
                conn.execute(f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where {mine}")
                conn.execute("update seasons set epoch = epoch + 1, token = token + 1000000")
                (token,) = conn.execute("select token from seasons").fetchone()
            with redis_sync.Redis.from_url(servers.redis_url) as sync:
                sync.delete(keys.board("s"))
                sync.hset(keys.meta("s"), mapping={"epoch": 2, "token": token, "base": token, "count": 0})

    with pytest.raises(psycopg.OperationalError):
        await BatchApplier(pool, projection, 500, reset_meanwhile).apply(floor=0, paused=[])
    await drain()
    await Audit(pool, projection).run()
    assert await truth() == {}
