"""Batches of the outbox against real servers: what they do to ledger, standings and boards, come what may."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from shared import keys, ledger, outbox, seasons
from shared.projection import Projection, Stored, Update
from shared.reconciliation import DeposedError, LateError, SeasonsUnreachableError, reconcile
from shared.scores import MAX_SCORE, Score
from shared.standings import Standing
from worker.batch import STEPS, BatchApplier, SeasonsLockedError
from worker.floor import Floor
from worker.loop import Loop
from worker.upkeep import Audit, Purge


class CrashError(Exception):
    """Stands for the death of the worker: the transaction is rolled back, what Redis got stays."""


def crashing_at(step):
    def reach(reached):
        if reached == step:
            raise CrashError(step)

    return reach


async def test_many_seasons_and_players_in_one_batch(add, drain, truth):
    await add(*((f"s{number % 5}", f"u{number % 11}", number + 1) for number in range(500)))
    assert await drain() == 500
    boards = await truth()
    assert len(boards) == 5
    assert sum(sum(board.values()) for board in boards.values()) == sum(range(501))


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_changes_nothing_in_the_end(add, pool, projection, drain, truth, step):
    await add(("s", "ann", 5), ("s", "bob", 7))
    await drain()
    await add(("s", "ann", 1), ("s", "cid", 2))
    crashing = BatchApplier(pool, projection, 500, crashing_at(step))
    with pytest.raises(CrashError):
        await crashing.apply(floor=0, paused=[])
    await add(("s", "bob", 1))
    await drain()
    assert await truth() == {"s": {"ann": 6, "bob": 8, "cid": 2}}


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
            await reconcile(pool, projection, error.season_id)
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


async def wipe(redis, _copies):
    await redis.flushall()


async def delete_board(redis, _copies):
    await redis.delete(keys.board("s"))


async def delete_meta(redis, _copies):
    await redis.delete(keys.meta("s"))


async def remove_players(redis, _copies):
    await redis.zrem(keys.board("s"), "ann", "cid")


async def restore_old_copy(redis, copies):
    for key, copy in copies.items():
        await redis.restore(key, 0, copy, replace=True)


@pytest.mark.parametrize("damage", [wipe, delete_board, delete_meta, remove_players, restore_old_copy])
@pytest.mark.parametrize("then", ["audit", "batch"])
async def test_what_redis_lost_comes_back(add, drain, pool, projection, redis, servers, truth, damage, then):
    """Noticed by the audit without a new score, and by the next batch without an audit."""
    raw = redis.from_url(servers.redis_url)
    await add(("s", "ann", 5), ("s", "bob", 7), ("other", "ann", 1))
    await drain()
    copies = {key: await raw.dump(key) for key in (keys.board("s"), keys.meta("s"))}
    await raw.aclose()
    await add(("s", "ann", 1), ("s", "cid", 2))
    await drain()
    await damage(redis if damage is not restore_old_copy else (raw := redis.from_url(servers.redis_url)), copies)
    await raw.aclose()
    expected = {"s": {"ann": 6, "bob": 7, "cid": 2}, "other": {"ann": 1}}
    if then == "audit":
        await Audit(pool, projection).run()
    else:
        await add(("s", "dan", 3), ("other", "dan", 3))
        await drain()
        expected["s"]["dan"] = expected["other"]["dan"] = 3
    assert await truth() == expected


async def test_an_audit_goes_on_behind_seasons_that_it_cannot_repair(add, drain, pool, projection, redis):
    await add(*((season_id, "ann", 5) for season_id in ("a-deposed", "b-broken", "c-lost")))
    await drain()
    await redis.hincrby(keys.meta("a-deposed"), "timeline", 1)
    await redis.set(keys.meta("b-broken"), "not a hash")
    await redis.delete(keys.board("c-lost"))
    with pytest.raises(SeasonsUnreachableError):
        await Audit(pool, projection).run()
    assert await redis.zscore(keys.board("c-lost"), "ann") == 5


async def test_an_old_copy_is_patched_not_rebuilt(add, drain, pool, projection, redis, servers, truth, monkeypatch):
    raw = redis.from_url(servers.redis_url)
    await add(*(("s", f"u{number}", number + 1) for number in range(100)))
    await drain()
    copies = {key: await raw.dump(key) for key in (keys.board("s"), keys.meta("s"))}
    await add(("s", "u1", 5))
    await drain()
    await restore_old_copy(raw, copies)
    await raw.aclose()

    async def no_rebuild(*_args):
        pytest.fail("rebuilt")

    monkeypatch.setattr(projection, "swap", no_rebuild)
    await Audit(pool, projection).run()
    assert (await truth())["s"]["u1"] == 7


async def test_a_board_larger_than_a_patch_is_rebuilt_whole(add, drain, pool, projection, redis, truth):
    await add(*(("s", f"u{number}", number + 1) for number in range(6000)))
    await drain()
    await redis.hset(keys.meta("s"), "token", 1)
    await Audit(pool, projection).run()
    assert len((await truth())["s"]) == 6000
    assert await redis.ttl(keys.board("s")) == -1
    assert await redis.keys("*staging*") == []


async def test_a_repair_starts_over_when_the_board_changed_meanwhile(add, drain, pool, redis, truth):
    """Between the report and the swap another process wrote: the swap must not undo that."""

    class Interfered(Projection):
        async def swap(self, update, seen, staged):
            if not await redis.exists("interfered"):
                await redis.set("interfered", 1)
                await redis.zadd(keys.board("s"), {"intruder": 1})
            return await super().swap(update, seen, staged)

    await add(("s", "ann", 5))
    await drain()
    await redis.delete(keys.meta("s"))
    await Audit(pool, Interfered(redis)).run()
    assert await redis.exists("interfered")
    assert await truth() == {"s": {"ann": 5}}


async def test_a_lost_staged_board_is_never_swapped_in(projection, redis):
    update = Update("s", 1, 1, 0, 10)
    await projection.stage(update, [("ann", 1), ("bob", 2)])
    await redis.zrem(keys.staging("s", 10), "bob")
    answer = await projection.swap(update, Stored(0, 0, 0, 0, 0, 0), 2)
    assert answer.verdict == "moved"
    assert not await redis.exists(keys.board("s"))


async def test_events_of_before_a_reset_are_done_without_effect(add, drain, pool, projection, truth):
    await add(("s", "old", 5))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["s"])
        await seasons.begin_next_epoch(conn, "s")
    await add(("s", "new", 1))
    assert await drain() == 2
    await reconcile(pool, projection, "s")
    assert await truth() == {"s": {"new": 1}}


async def test_a_poison_event_is_set_aside_with_its_reason_and_the_others_pass(add, drain, pool, truth):
    """The sum of a player leaves ±(2^53 - 1): that event fails, its 499 neighbours do not."""
    await add(("s", "rich", MAX_SCORE))
    await add(*(("s", f"u{number}", 1) for number in range(250)))
    await add(("s", "rich", 1))
    await add(*(("s", f"u{number}", 1) for number in range(248)))
    assert await drain() == 500
    async with pool.connection() as conn:
        failed = await (
            await conn.execute("select user_id, attempts, last_error from outbox where status = 'failed'")
        ).fetchall()
    assert [row[:2] for row in failed] == [("rich", 1)]
    assert "standings_score_check" in failed[0][2]
    assert (await truth())["s"]["rich"] == MAX_SCORE


async def test_a_failed_event_that_an_aborted_batch_had_shown_is_taken_back(add, pool, projection, drain, truth):
    """Alone it fitted and was shown, but the commit failed; folded after another event it no longer fits."""
    await add(("s", "rich", 5))
    async with pool.connection() as conn:
        await conn.execute("update outbox set status = 'done' where user_id = 'rich'")
        await conn.execute("update outbox set status = 'pending'")
    await add(("s", "rich", MAX_SCORE - 3))
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from outbox order by id limit 1 for update")
        with pytest.raises(CrashError):
            await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    await drain()
    assert await truth() == {"s": {"rich": 5}}


@pytest.mark.parametrize("known", [False, True])
async def test_a_failed_event_that_was_shown_is_taken_back(known, add, drain, pool, projection, redis, truth):
    """Its player's standing is sent again, or the player removed who has none."""
    if known:
        await add(("s", "ghost", 1))
        await drain()
    await add(("s", "ann", 1), ("s", "ghost", 5))
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "ghost") == (6 if known else 5)
    async with pool.connection() as conn:
        await conn.execute("alter table standings add constraint no_ghosts check (user_id <> 'ghost' or score < 5)")
    await drain()
    assert await truth() == {"s": {"ann": 1, "ghost": 1} if known else {"ann": 1}}
    # A roll-back of Redis to what the aborted batch showed is repaired as well.
    async with pool.connection() as conn:
        tombs = await (await conn.execute("select score from standings where user_id = 'ghost'")).fetchall()
    assert tombs == [(1 if known else None,)]


async def test_two_workers_over_the_same_players_do_not_deadlock_or_double(add, pool, projection, truth):
    await add(*((f"s{number % 4}", f"u{number % 13}", 1) for number in range(6000)))
    appliers = [BatchApplier(pool, projection, 100, lambda _step: None) for _ in range(3)]

    async def work(applier):
        total = 0
        while (batch := await applier.apply(floor=0, paused=[])).events:
            total += batch.events
        return total

    totals = await asyncio.gather(*(work(applier) for applier in appliers))
    assert sum(totals) == 6000
    assert sum(sum(board.values()) for board in (await truth()).values()) == 6000


@pytest.fixture
async def running_loop(applier, pool, projection):
    """A worker's loop at work, stopped at the end."""
    stop = asyncio.Event()
    loop = Loop(applier, pool, projection, Floor(), batch_size=500, poll_seconds=0.001)
    task = asyncio.create_task(loop.run(stop))
    yield loop
    stop.set()
    await task


async def test_a_batch_gives_up_a_season_held_elsewhere(add, applier, pool):
    await add(("held", "ann", 1), ("free", "ann", 1))
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["held"])
        with pytest.raises(SeasonsLockedError) as locked:
            await applier.apply(floor=0, paused=[])
    assert set(locked.value.season_ids) == {"held", "free"}


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
        await Purge(pool, retention_hours=24).run()
        for table, rows in (("standings", 1), ("score_events", 2), ("outbox", 2)):
            assert await (await conn.execute(f"select count(*) from {table}")).fetchone() == (rows,)
    await drain()
    assert await truth() == {"s": {"new": 2}}


async def test_the_purge_of_the_outbox_stops_at_the_first_event_that_is_not_old_enough(pool):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, processed_at)"
            " select n, 'score', 's', 1, 'u', 1, case when n <= 10 then 'failed'"
            " when n > 60 then 'pending' else 'done' end,"
            " now() - case when n <= 40 then interval '2 hours' else interval '0' end from generate_series(1, 70) as n"
        )
        await conn.execute("update outbox set processed_at = now() - interval '2 hours' where id = 55")
        # An event of a season in lasting trouble stays pending at the front.
        await conn.execute("update outbox set status = 'pending', processed_at = null where id = 5")
        first = await outbox.purge(conn, after=0, retention_hours=1, limit=20)
        assert first == (10, 20)
        second = await outbox.purge(conn, after=20, retention_hours=1, limit=20)
        assert second == (20, 40)
        third = await outbox.purge(conn, after=40, retention_hours=1, limit=20)
        assert third == (1, None)
        await Purge(pool, retention_hours=1).run()
        rows = await (await conn.execute("select id from outbox order by id")).fetchall()
    assert [row[0] for row in rows] == [*range(1, 11), *range(41, 55), *range(56, 71)]


async def test_an_epoch_is_taken_at_commit_not_at_arrival(pool, add, drain, truth):
    """A score whose statement began before a reset committed belongs to the ended epoch, one after to the new."""
    await add(("s", "ann", 1))
    async with pool.connection() as writing, pool.connection() as resetting:
        async with writing.transaction():
            await ledger.append(writing, [Score("s", "before", 1)])
            async with resetting.transaction():
                await seasons.lock(resetting, ["s"])
                await seasons.begin_next_epoch(resetting, "s")
        await ledger.append(writing, [Score("s", "after", 1)])
    await drain()
    assert await truth() == {"s": {"after": 1}}


async def test_append_inserts_all_rows_or_none(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["known"])
        with pytest.raises(ledger.UnknownSeasonError):
            await ledger.append(conn, [Score("known", "ann", 1), Score("unknown", "ann", 1)])
        with pytest.raises(psycopg.IntegrityError):
            await ledger.append(conn, [Score("known", "ann", 1), Score("known", "x" * 200, 1)])
        assert await (await conn.execute("select count(*) from score_events")).fetchone() == (0,)
        assert await (await conn.execute("select count(*) from outbox")).fetchone() == (0,)
