"""Failed events sent back or given up: what was shown is taken back, and no batch is ever half undone."""

from __future__ import annotations

import asyncio

import pytest
from conftest import CrashError, crashing_at

from shared import keys, outbox_review, seasons, setbacks
from shared.projection import Projection
from shared.reconciliation import SeasonsUnreachableError, reconcile
from shared.scores import MAX_SCORE
from shared.verification import Verification
from worker.batch import BatchApplier


@pytest.fixture
def rows(pool):
    async def ask(query):
        async with pool.connection() as conn:
            return await (await conn.execute(query)).fetchall()

    return ask


@pytest.fixture
def equal(pool, projection):
    """Whether ledger, standings and board of season s agree, as `verify` sees it."""

    async def compare():
        verification = Verification(pool, projection, repair=False, patience_seconds=0)
        return all([report.equal async for report in verification.run(["s"])])

    return compare


@pytest.fixture
async def poisoned(add, drain):
    """Ann has all that a board can hold; one more point of hers failed."""
    await add(("s", "ann", MAX_SCORE), ("s", "bob", 1))
    await drain()
    await add(("s", "ann", 1))
    await drain()


@pytest.mark.usefixtures("poisoned")
async def test_a_poison_event_that_is_retried_fails_again_and_counts_its_attempts(drain, pool, rows, equal):
    ((event_id,),) = await rows("select id from outbox where status = 'failed'")
    async with pool.connection() as conn:
        assert await setbacks.retry(conn, [event_id, event_id - 1]) == {event_id}
        assert await setbacks.retry(conn, [event_id]) == set()
    ((attempts, error, processed_at),) = await rows(
        "select attempts, last_error, processed_at from outbox where status = 'pending'"
    )
    assert (attempts, "score_check" in error, processed_at) == (1, True, None)
    await drain()
    assert await rows("select attempts from outbox where status = 'failed'") == [(2,)]
    assert await equal()


@pytest.mark.usefixtures("poisoned")
async def test_a_retried_event_counts_once_there_is_room(add, drain, pool, rows, truth, equal):
    await add(("s", "ann", -10))
    await drain()
    async with pool.connection() as conn:
        (event_id,) = await setbacks.retry_some(conn, "s", 0)
        assert await setbacks.retry_some(conn, None, event_id) == []
    await drain()
    assert await truth() == {"s": {"ann": MAX_SCORE - 9, "bob": 1}}
    ((attempts, error),) = await rows(f"select attempts, last_error from outbox where id = {event_id}")
    assert (attempts, "score_check" in error) == (1, True)
    assert await equal()


@pytest.mark.parametrize("known", [False, True])
async def test_a_discarded_event_that_an_aborted_batch_had_shown_is_taken_back(
    known, add, drain, pool, projection, redis, rows, truth, equal
):
    if known:
        await add(("s", "ghost", 1))
        await drain()
    await add(("s", "ann", 1), ("s", "ghost", 5))
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "ghost") == (6 if known else 5)
    ((event_id,),) = await rows("select max(id) from outbox where user_id = 'ghost'")
    assert await setbacks.discard(pool, projection, "s", [event_id]) == {event_id}
    assert await redis.zscore(keys.board("s"), "ghost") == (1 if known else None)
    await drain()
    assert await truth() == {"s": {"ann": 1, "ghost": 1} if known else {"ann": 1}}
    assert await rows("select count(*) from score_events where discarded_at is not null") == [(1,)]
    assert await rows("select count(*) from outbox where status = 'discarded' and processed_at is not null") == [(1,)]
    assert await equal()
    # So that a roll-back of Redis to what the aborted batch showed is repaired as well.
    assert await rows("select score from standings where user_id = 'ghost'") == [(1 if known else None,)]


@pytest.mark.usefixtures("poisoned")
async def test_all_failed_events_of_a_season_in_batches(add, drain, pool, projection, rows, equal, monkeypatch):
    monkeypatch.setattr(setbacks, "BATCH", 2)
    await add(("s", "ann", 2), ("s", "ann", 3), ("s", "ann", 4), ("t", "ann", MAX_SCORE))
    await drain()
    await add(("t", "ann", 1))
    await drain()
    async with pool.connection() as conn:
        assert await setbacks.seasons_with_failed(conn, None) == {"s": 4, "t": 1}
        assert await setbacks.seasons_with_failed(conn, "t") == {"t": 1}
    batches = [len(await setbacks.discard_some(pool, projection, "s")) for _ in range(3)]
    assert batches == [2, 2, 0]
    assert await rows("select season_id, count(*) from outbox where status = 'failed' group by 1") == [("t", 1)]
    assert await equal()
    async with pool.connection() as conn:
        found = await outbox_review.review(conn)
        assert found.counts == {"pending": 0, "done": 3, "failed": 1, "discarded": 4}
        assert list(found.reasons.values()) == [1]
        assert "score_check" in next(iter(found.reasons))
        total, events = await outbox_review.failed(conn, None, 10)
        assert (total, [event.season_id for event in events]) == (1, ["t"])
        assert await outbox_review.failed(conn, "s", 10) == (0, [])
        assert await setbacks.failed_ids(conn, "t") == await setbacks.failed_ids(conn, None) == [events[0].id]
        assert await setbacks.failed_ids(conn, "s") == []


async def test_a_done_event_is_not_discarded(add, drain, pool, projection, rows, truth):
    await add(("s", "ann", 1))
    await drain()
    ((event_id,),) = await rows("select id from outbox")
    token = await rows("select token from seasons")
    assert await setbacks.discard(pool, projection, "s", [event_id, event_id + 1]) == set()
    assert await rows("select token from seasons") == token
    assert await truth() == {"s": {"ann": 1}}


async def test_an_event_of_an_ended_epoch_is_discarded_without_effect(add, drain, pool, projection, rows, truth, equal):
    await add(("s", "ann", 1))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["s"])
        await seasons.begin_next_epoch(conn, "s")
    await add(("s", "bob", 2))
    ((event_id,),) = await rows("select id from outbox where user_id = 'ann'")
    assert await setbacks.discard(pool, projection, "s", [event_id]) == {event_id}
    await drain()
    await reconcile(pool, projection, "s")
    assert await truth() == {"s": {"bob": 2}}
    assert await equal()


async def test_a_discard_waits_for_the_batch_that_applies_the_event(add, pool, projection, rows, truth):
    """The batch was first: the event is done, and the discard leaves it alone."""
    await add(("s", "ann", 1), ("s", "bob", 1))
    shown, go_on = asyncio.Event(), asyncio.Event()

    class Held(Projection):
        async def apply(self, updates):
            shown.set()
            await go_on.wait()
            return await super().apply(updates)

    ids = [row[0] for row in await rows("select id from outbox")]
    batch = asyncio.create_task(
        BatchApplier(pool, Held(projection._client), 500, lambda _step: None).apply(floor=0, paused=[])
    )
    await shown.wait()
    discard = asyncio.create_task(setbacks.discard(pool, projection, "s", ids))
    while not await rows("select from pg_stat_activity where wait_event_type = 'Lock' and query like '%outbox%'"):
        await asyncio.sleep(0)
    go_on.set()
    await batch
    assert await discard == set()
    assert await truth() == {"s": {"ann": 1, "bob": 1}}


async def test_a_batch_passes_by_an_event_that_is_being_discarded(add, applier, pool, projection, rows, truth, equal):
    """The discard was first: the batch takes the other events and waits for its season; none is counted twice."""
    await add(("s", "ann", 1), ("s", "bob", 1), ("t", "ann", 1))
    shown, go_on = asyncio.Event(), asyncio.Event()

    class Held(Projection):
        async def apply(self, updates):
            shown.set()
            await go_on.wait()
            return await super().apply(updates)

    ((event_id,),) = await rows("select id from outbox where season_id = 's' and user_id = 'ann'")
    discard = asyncio.create_task(setbacks.discard(pool, Held(projection._client), "s", [event_id]))
    await shown.wait()
    batch = asyncio.create_task(applier.apply(floor=0, paused=[]))
    while not await rows("select from pg_stat_activity where wait_event_type = 'Lock' and query like '%seasons%'"):
        await asyncio.sleep(0)
    go_on.set()
    assert await discard == {event_id}
    assert (await batch).events == 2
    assert await truth() == {"s": {"bob": 1}, "t": {"ann": 1}}
    assert await equal()


async def test_discards_and_batches_race_without_deadlock(add, patient_pool, projection, rows, truth):
    """Each event is either applied or given up, whoever was faster; PostgreSQL counted no deadlock."""
    await add(*(("s", f"u{number % 20}", 1) for number in range(400)))
    ids = [row[0] for row in await rows("select id from outbox order by id")]
    discarded = set()

    async def discard(some):
        for start in range(0, len(some), 20):
            discarded.update(await setbacks.discard(patient_pool, projection, "s", some[start : start + 20]))

    small = BatchApplier(patient_pool, projection, 30, lambda _step: None)

    async def work():
        while (await rows("select count(*) from outbox where status = 'pending'")) != [(0,)]:
            await small.apply(floor=0, paused=[])

    await asyncio.gather(work(), work(), discard(ids[::2]), discard(ids[:100:2][::-1]))
    board = (await truth())["s"]
    assert sum(board.values()) == 400 - len(discarded)
    assert 0 < len(discarded) <= 200
    assert await rows("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


@pytest.mark.usefixtures("poisoned")
async def test_a_discard_that_redis_refuses_changes_nothing(pool, projection, redis, rows, equal):
    copy = await redis.hgetall(keys.meta("s"))
    await redis.delete(keys.meta("s"))
    await redis.set(keys.meta("s"), "not a hash")
    with pytest.raises(SeasonsUnreachableError):
        await setbacks.discard_some(pool, projection, "s")
    assert await rows("select count(*) from outbox where status = 'failed'") == [(1,)]
    assert await rows("select count(*) from score_events where discarded_at is not null") == [(0,)]
    await redis.delete(keys.meta("s"))
    await redis.hset(keys.meta("s"), mapping=copy)
    assert await equal()


@pytest.mark.usefixtures("poisoned")
async def test_a_discard_passes_a_board_ahead_of_the_clock(pool, projection, redis, truth, equal):
    stored = await redis.hget(keys.meta("s"), "token")
    await redis.hset(keys.meta("s"), mapping={"token": int(stored) + 86_400_000_000, "base": stored})
    assert len(await setbacks.discard_some(pool, projection, "s")) == 1
    assert await truth() == {"s": {"ann": MAX_SCORE, "bob": 1}}
    assert await equal()
