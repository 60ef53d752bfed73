"""The worker's loop and its upkeep: one season in trouble does not stall the others; purges delete what may go."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import RedisError

from shared import keys, ledger, outbox, seasons
from shared.projection import Projection
from shared.reconciliation import SeasonsUnreachableError, reconcile
from worker.batch import Batch, BatchApplier, SeasonsLockedError
from worker.floor import Floor
from worker.loop import Loop
from worker.upkeep import Audit, Purge


@pytest.fixture
async def running_loop(applier, pool, projection):
    """A worker's loop at work, stopped at the end."""
    stop = asyncio.Event()
    loop = Loop(applier, pool, projection, Floor(), asyncio.Event(), batch_size=500, poll_seconds=0.001)
    task = asyncio.create_task(loop.run(stop))
    yield loop
    stop.set()
    await task


WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class HeldProjection(Projection):
    """Shows nothing before it is told to go on."""

    def __init__(self, client):
        super().__init__(client)
        self.held, self.goes_on = asyncio.Event(), asyncio.Event()

    async def apply(self, updates):
        self.held.set()
        await self.goes_on.wait()
        return await super().apply(updates)


class Impatient(BatchApplier):
    """Says when it has waited too long for a season."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.given_up = asyncio.Event()

    async def apply(self, **arguments):
        try:
            return await super().apply(**arguments)
        except SeasonsLockedError:
            self.given_up.set()
            raise


@pytest.fixture
async def held(projection):
    return HeldProjection(projection._client)


@pytest.fixture
async def impatient(pool, held):
    return Impatient(pool, held, 10, lambda _step: None)


@pytest.fixture
async def lanes(add, pool, held, impatient):
    """A loop with 25 events in batches of 10: its first lane is held, its second then waits for the season's lock."""
    await add(*(("s", f"u{number % 7}", 1) for number in range(25)))
    return Loop(impatient, pool, held, Floor(), asyncio.Event(), batch_size=10, poll_seconds=0.001)


async def test_while_batches_are_full_the_next_one_is_claimed_before_the_last_is_shown(
    lanes, held, impatient, eventually, truth
):
    """And where it waits too long for the first, that pauses no season: the first is at work on it."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lanes.run(stop))
        await held.held.wait()
        await eventually(WAITING)
        await impatient.given_up.wait()
        assert lanes._pauses.in_trouble() == []
        held.goes_on.set()
        await eventually("select 1 from outbox where status = 'pending'", gone=True)
        stop.set()
    assert sum((await truth())["s"].values()) == 25


async def test_stops_where_the_second_lane_fails_after_it_was_told_to(lanes, held, impatient, eventually, drain, truth):
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(lanes.run(stop))
        await held.held.wait()
        await eventually(WAITING)
        stop.set()
        await impatient.given_up.wait()
        held.goes_on.set()
    await drain()
    assert sum((await truth())["s"].values()) == 25


async def test_workers_that_divide_a_backlog_of_many_seasons_leave_nothing(add, pool, projection, eventually, truth):
    for number in range(30):
        await add(*((f"s{season}", f"u{(number + season) % 7}", 1) for season in range(60)))
    stop = asyncio.Event()
    shares = set()

    class Noted(BatchApplier):
        async def apply(self, **arguments):
            batch = await super().apply(**arguments)
            if arguments["shares"]:
                shares.update(batch.shares)
            return batch

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            applier = Noted(pool, projection, 20, lambda _step: None)
            loop = Loop(applier, pool, projection, Floor(), asyncio.Event(), batch_size=20, poll_seconds=0.001)
            tasks.create_task(loop.run(stop))
        await eventually("select 1 from outbox where status = 'pending'", gone=True)
        stop.set()
    assert len(shares) > 2
    assert {sum(board.values()) for board in (await truth()).values()} == {30}


@pytest.mark.usefixtures("running_loop")
async def test_a_season_held_elsewhere_does_not_stall_the_others(add, pool, eventually, truth):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["held"])
        async with conn.transaction():
            await seasons.lock(conn, ["held"])
            await add(("held", "ann", 1), ("free", "ann", 1))
            await eventually("select 1 from outbox where status = 'done' and season_id = 'free'")
            await eventually("select 1 from outbox where status = 'done' and season_id = 'held'", gone=True)
        await eventually("select 1 from outbox where status = 'pending'", gone=True)
    assert await truth() == {"held": {"ann": 1}, "free": {"ann": 1}}


@pytest.mark.usefixtures("running_loop")
async def test_a_standing_locked_by_hand_does_not_stall_the_other_seasons(add, pool, eventually, truth):
    names = [f"s{number}" for number in range(21)]
    await add(*((season_id, "ann", 1) for season_id in names))
    await eventually("select 1 from outbox where status = 'pending'", gone=True)
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from standings where season_id = 's7' for update")
        await add(*((season_id, "ann", 1) for season_id in names))
        await eventually("select 1 from outbox where status = 'pending' and season_id <> 's7'", gone=True)
    await eventually("select 1 from outbox where status = 'pending'", gone=True)
    assert await truth() == {season_id: {"ann": 2} for season_id in names}


async def test_a_batch_does_not_rebuild_a_large_board_the_audit_does(
    add, applier, drain, pool, projection, redis, truth
):
    await add(*(("large", f"u{number}", 1) for number in range(5001)), ("small", "ann", 1))
    await drain()
    await redis.flushall()
    await add(("large", "u1", 1), ("small", "ann", 1))
    with pytest.raises(SeasonsUnreachableError) as put_off:
        await applier.apply(floor=0, paused=[])
    assert list(put_off.value.failures) == ["large"]
    assert not put_off.value.all_failed
    await applier.apply(floor=0, paused=["large"])
    assert await redis.zscore(keys.board("small"), "ann") == 2
    await Audit(pool, projection).run()
    await drain()
    assert len((await truth())["large"]) == 5001


@pytest.mark.usefixtures("running_loop")
async def test_many_seasons_of_a_deposed_primary_do_not_stall_the_others(add, redis, eventually):
    seasons_before = [f"a{number}" for number in range(700)]
    async with redis.pipeline(transaction=False) as pipe:
        for season_id in seasons_before:
            pipe.hset(keys.meta(season_id), "timeline", 99)
        await pipe.execute()
    await add(*((season_id, "ann", 1) for season_id in seasons_before), ("healthy", "ann", 1))
    await eventually("select 1 from outbox where status = 'done' and season_id = 'healthy'")
    assert await redis.zscore(keys.board("healthy"), "ann") == 1


@pytest.mark.usefixtures("running_loop")
async def test_a_season_whose_board_redis_refuses_does_not_stall_the_others(add, redis, eventually, truth):
    await redis.set(keys.meta("broken"), "not a hash")
    await add(("broken", "ann", 1), ("fine", "ann", 1))
    await eventually("select 1 from outbox where status = 'done' and season_id = 'fine'")
    await eventually(
        "select 1 from outbox where season_id = 'broken' and (status <> 'pending' or attempts > 0)", gone=True
    )
    await redis.delete(keys.meta("broken"))
    await eventually("select 1 from outbox where status = 'pending'", gone=True)
    assert await truth() == {"broken": {"ann": 1}, "fine": {"ann": 1}}


async def test_a_share_of_which_nothing_can_be_shown_does_not_make_the_worker_back_off(pool, projection, monkeypatch):
    stop, asked, backed_off = asyncio.Event(), [], []
    monkeypatch.setattr("worker.loop.backoff_seconds", lambda failures, _: backed_off.append(failures) or 0.0)

    class OneShareInTrouble(BatchApplier):
        async def apply(self, *, shares, **_):
            asked.append(bool(shares))
            if shares:
                raise SeasonsUnreachableError({"s": RedisError("out of memory")}, all_failed=True)
            if len(asked) > 1:
                stop.set()
            return Batch(20, 2, 0, [3, 5])  # full: two shares have much

    applier = OneShareInTrouble(pool, projection, 20, lambda _step: None)
    await Loop(applier, pool, projection, Floor(), asyncio.Event(), batch_size=20, poll_seconds=0.001).run(stop)
    assert asked == [False, True, False]
    assert backed_off == []


async def test_the_purge_deletes_what_a_reset_ended_and_what_is_past_retention(add, drain, pool, projection, truth):
    await add(*(("s", f"u{number}", 1) for number in range(5000)))
    await drain()
    async with pool.connection() as conn:
        async with conn.transaction():
            await seasons.lock(conn, ["s"])
            await seasons.begin_next_epoch(conn, "s")
        await reconcile(pool, projection, "s")
        await add(("s", "new", 1))
        await drain()
        await add(("s", "new", 1))
        await conn.execute("update outbox set processed_at = now() - interval '25 hours' where user_id <> 'new'")
        await Purge(pool, projection, 24, 24).run()
        for table, rows in (("standings", 1), ("score_events", 2), ("outbox", 2)):
            assert await (await conn.execute(f"select count(*) from {table}")).fetchone() == (rows,)
    await drain()
    assert await truth() == {"s": {"new": 2}}


async def test_the_purge_of_the_outbox_stops_at_the_first_event_that_is_not_old_enough(pool, projection):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, processed_at)"
            " select n, 'score', 's', 1, 'u', 1, case when n <= 10 then 'failed'"
            " when n > 60 then 'pending' else 'done' end,"
            " now() - case when n <= 40 then interval '2 hours' else interval '0' end from generate_series(1, 70) as n"
        )
        await conn.execute("update outbox set processed_at = now() - interval '2 hours' where id = 55")
        await conn.execute("update outbox set status = 'discarded' where id between 21 and 25 or id = 41")
        # An event of a season in lasting trouble stays pending at the front.
        await conn.execute("update outbox set status = 'pending', processed_at = null where id = 5")
        first = await outbox.purge(conn, after=0, retention_hours=1, limit=20)
        assert first == (10, 20)
        second = await outbox.purge(conn, after=20, retention_hours=1, limit=20)
        assert second == (20, 40)
        third = await outbox.purge(conn, after=40, retention_hours=1, limit=20)
        assert third == (1, None)
        await Purge(pool, projection, 1, 24).run()
        rows = await (await conn.execute("select id from outbox order by id")).fetchall()
    assert [row[0] for row in rows] == [*range(1, 11), *range(41, 55), *range(56, 71)]
