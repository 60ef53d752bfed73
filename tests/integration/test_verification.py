"""Ledger, standings and boards compared: every kind of damage is found and mended, and never one that is none."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from conftest import CrashError, crashing_at

from shared import keys, seasons, setbacks
from shared.findings import Report
from shared.ledger_check import compare_standings
from shared.projection import Projection
from shared.reconciliation import reconcile
from shared.scores import MAX_SCORE
from shared.verification import Verification
from worker.batch import BatchApplier
from worker.floor import Floor
from worker.loop import Loop
from worker.upkeep import Audit, every


def verification_of(pool, projection):
    """Reports of the seasons, by id; nothing is waited for unless the test says so."""

    async def run(*season_ids, repair=False, patience_seconds=0.0):
        verification = Verification(pool, projection, repair=repair, patience_seconds=patience_seconds)
        return {report.season_id: report async for report in verification.run(season_ids or ("s",))}

    return run


@pytest.fixture
def verify(pool, projection):
    return verification_of(pool, projection)


async def execute(pool, query):
    async with pool.connection() as conn:
        await conn.execute(query)


def set_score(score):
    async def damage(redis, _pool):
        await redis.zadd(keys.board("s"), {"ann": score})

    return damage


async def swap_members(redis, _pool):
    """One missing, one extra: the board's own count fits, so no audit notices."""
    await redis.zrem(keys.board("s"), "bob")
    await redis.zadd(keys.board("s"), {"ghost": 3})


async def wrong_standing(_redis, pool):
    await execute(pool, "update standings set score = 99 where user_id = 'ann' and season_id = 's'")


async def missing_standing(_redis, pool):
    await execute(pool, "delete from standings where user_id = 'ann' and season_id = 's'")


async def tombstone(_redis, pool):
    await execute(pool, "update standings set score = null where user_id = 'ann' and season_id = 's'")


async def extra_standing(_redis, pool):
    await execute(pool, "insert into standings values ('s', 1, 'ghost', 3, 1)")


async def lost_meta(redis, _pool):
    await redis.delete(keys.meta("s"))


async def wiped(redis, _pool):
    await redis.flushall()


@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        (set_score(99), {"board wrong": 1}),
        (set_score(5.5), {"board wrong": 1}),
        (swap_members, {"board missing": 1, "board extra": 1}),
        (wrong_standing, {"standing wrong": 1, "board wrong": 1}),
        (missing_standing, {"standing missing": 1, "board extra": 1}),
        (tombstone, {"standing missing": 1, "board extra": 1}),
        (extra_standing, {"standing extra": 1, "board missing": 1}),
        (lost_meta, {"board behind": 1}),
        (wiped, {"board behind": 1}),
    ],
)
async def test_damage_is_found_and_repaired(add, drain, pool, redis, verify, truth, damage, kinds):
    await add(("s", "ann", 5), ("s", "bob", 7), ("other", "ann", 1))
    await drain()
    await damage(redis, pool)
    report = (await verify("other", "s"))["s"]
    assert dict(report.differences) == kinds
    assert not report.equal
    report = (await verify("other", "s", repair=True))["s"]
    # A standing's repair sends the player's score to the board too.
    assert report.differences.total() == report.repaired > 0
    assert report.equal
    assert await truth() == {"s": {"ann": 5, "bob": 7}, "other": {"ann": 1}}
    assert all(report.equal for report in (await verify("s", "other")).values())


async def test_a_report_says_what_would_be_right(add, drain, redis, verify):
    await add(*(("s", f"u{number}", number + 1) for number in range(20)))
    await drain()
    await redis.zadd(keys.board("s"), {f"u{number}": 1000 for number in range(20)})
    report = (await verify())["s"]
    assert report.differences == {"board wrong": 20}
    assert report.named[0] == ("board wrong", "u0", 1, 1000, None)
    assert len(report.named) == 5
    assert (report.ledger_players, report.standing_players, report.board_players) == (20, 20, 20)


async def test_what_was_repaired_stays_so_when_redis_falls_back(add, drain, pool, projection, redis, verify, truth):
    """A copy of Redis from when the board was wrong is patched with what the repair sent."""
    await add(("s", "ann", 5), ("s", "bob", 7))
    await drain()
    await add(("s", "cid", 1))  # so that the players' own batch is none that a patch sends again anyway
    await drain()
    await redis.zadd(keys.board("s"), {"ann": 99})
    await redis.zrem(keys.board("s"), "bob")
    await redis.zadd(keys.board("s"), {"ghost": 3})
    wrong = await redis.zrange(keys.board("s"), 0, -1, withscores=True), await redis.hgetall(keys.meta("s"))
    await verify(repair=True)
    assert await truth() == {"s": {"ann": 5, "bob": 7, "cid": 1}}
    await redis.delete(keys.board("s"))
    await redis.zadd(keys.board("s"), dict(wrong[0]))
    await redis.hset(keys.meta("s"), mapping=wrong[1])
    await Audit(pool, projection).run()
    assert await truth() == {"s": {"ann": 5, "bob": 7, "cid": 1}}


async def test_a_reset_and_a_purge_in_the_middle_are_no_difference(add, drain, pool, monkeypatch):
    """Between two statements of the comparison: epoch, ledger and standings must be of one snapshot."""
    fence = seasons.fence

    async def interrupted(conn, season_id):
        found = await fence(conn, season_id)
        async with pool.connection() as other, other.transaction():
            await seasons.lock(other, [season_id])
            await seasons.begin_next_epoch(other, season_id)
            await seasons.purge_ended_epochs(other, "standings", 100)
        return found

    await add(("s", "ann", 5))
    await drain()
    monkeypatch.setattr("shared.ledger_check.seasons.fence", interrupted)
    async with pool.connection() as conn:
        report = Report("s")
        await compare_standings(conn, report)
    assert report.differences.total() == 0
    assert report.ledger_players == report.standing_players == 1


async def test_events_that_do_not_count_are_not_missed(add, applier, drain, pool, projection, verify):
    """Pending, failed, discarded, purged and of an ended epoch: standings without them are right."""
    await add(("s", "old", 1))
    await drain()
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["s"])
        await seasons.begin_next_epoch(conn, "s")
    await reconcile(pool, projection, "s")
    await add(("s", "ann", MAX_SCORE), ("s", "purged", 3))
    await drain()
    await execute(pool, "delete from outbox")
    await add(("s", "ann", 1))
    await applier.apply(floor=0, paused=[])
    await add(("s", "ann", 2))
    await applier.apply(floor=0, paused=[])
    async with pool.connection() as conn:
        ids = [row[0] for row in await (await conn.execute("select id from outbox order by id")).fetchall()]
    assert await setbacks.discard(pool, projection, "s", ids[1:]) == {ids[1]}
    await add(("s", "new", 4))
    report = (await verify())["s"]
    assert report.equal
    assert (report.ledger_players, report.standing_players, report.board_players) == (2, 2, 2)


async def test_a_sum_that_no_standing_can_hold_is_reported_not_repaired(add, drain, pool, verify):
    await add(("s", "ann", MAX_SCORE), ("s", "bob", 1))
    await drain()
    await execute(pool, "update standings set score = 9 where user_id = 'bob'")
    await execute(pool, "update score_events set user_id = 'ann' where user_id = 'bob'")
    report = (await verify(repair=True))["s"]
    assert (report.differences["standing wrong"], report.differences["standing extra"]) == (1, 1)
    assert report.remaining == 1
    assert not report.equal


async def test_a_batch_that_is_shown_but_not_committed_is_no_difference(add, drain, pool, projection, verify):
    """While it runs, the lock is awaited; once it died, its events are pending and prove nothing."""
    await add(("s", "ann", 1), ("s", "bob", 1))
    await drain()
    await add(("s", "ann", 5), ("s", "new", 5))
    shown, go_on = asyncio.Event(), asyncio.Event()

    class Held(Projection):
        async def apply(self, updates):
            answers = await super().apply(updates)
            shown.set()
            await go_on.wait()
            return answers

    dying = BatchApplier(pool, Held(projection._client), 500, crashing_at("projected"))
    batch = asyncio.create_task(dying.apply(floor=0, paused=[]))
    await shown.wait()
    compared = asyncio.create_task(verify(patience_seconds=60))
    blocked = "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%for update%'"
    async with pool.connection() as conn:
        while await (await conn.execute(blocked)).fetchone() is None:
            await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(CrashError):
        await batch
    report = (await verify())["s"]
    assert report.differences.total() == 0
    assert report.unsettled is not None
    assert "2 players differ" in report.unsettled
    await drain()
    assert (await compared)["s"].equal


async def test_an_aborted_batch_hidden_by_the_next_one_is_no_difference(add, drain, pool, projection, verify):
    """Two events were shown, one was committed since: the board carries a committed token and still shows the other."""
    await add(("s", "ann", 1), ("s", "bob", 1))
    await drain()
    await add(("s", "ann", 5), ("s", "bob", 5))
    with pytest.raises(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    await BatchApplier(pool, projection, 1, lambda _step: None).apply(floor=0, paused=[])
    report = (await verify())["s"]
    assert report.differences.total() == 0
    assert report.unsettled is not None
    await drain()
    assert (await verify())["s"].equal


async def test_a_board_that_is_behind_is_given_time_to_follow(add, drain, pool, projection, redis):
    """Looked at twice in vain, under the lock and before; the audit comes only later."""

    class Watched(Projection):
        looks = 0

        async def look(self, season_id, rules, user_ids):
            Watched.looks += 1
            if Watched.looks == 7:
                await Audit(pool, projection).run()
            return await super().look(season_id, rules, user_ids)

    await add(("s", "ann", 5), ("t", "ann", 5))
    await drain()
    await redis.delete(keys.meta("s"))
    verification = Verification(pool, Watched(redis), repair=True, patience_seconds=60)
    reports = [report async for report in verification.run(["s", "t"])]
    assert [report.season_id for report in reports] == ["t", "s"]
    assert all(report.equal and report.differences.total() == 0 for report in reports)


async def test_a_season_that_never_had_a_batch(add, redis, verify):
    await add(("s", "ann", 5))
    assert (await verify())["s"].equal
    await redis.zadd(keys.board("s"), {"ghost": 1})
    assert (await verify())["s"].differences == {"board behind": 1}
    assert (await verify(repair=True))["s"].equal
    assert not await redis.exists(keys.board("s"))


async def test_a_board_that_redis_refuses_does_not_keep_the_others_from_being_compared(add, drain, redis, verify):
    await add(("a", "ann", 5), ("b", "ann", 5))
    await drain()
    await redis.delete(keys.board("a"))
    await redis.set(keys.board("a"), "not a sorted set")
    await redis.zadd(keys.board("b"), {"ann": 6})
    reports = await verify("a", "b", repair=True)
    assert not reports["a"].equal
    assert "WRONGTYPE" in reports["a"].unsettled
    assert reports["b"].equal


async def test_a_board_from_a_later_timeline_is_left_alone(add, drain, redis, verify):
    await add(("s", "ann", 5))
    await drain()
    await redis.hincrby(keys.meta("s"), "timeline", 1)
    await redis.zadd(keys.board("s"), {"ann": 7})
    report = (await verify(repair=True))["s"]
    assert not report.equal
    assert "ahead" in report.unsettled
    assert await redis.zscore(keys.board("s"), "ann") == 7


async def test_a_board_ahead_of_the_clock_is_repaired_all_the_same(add, drain, redis, verify, truth):
    await add(("s", "ann", 5), ("s", "bob", 5))
    await drain()
    stored = await redis.hget(keys.meta("s"), "token")
    await redis.hset(keys.meta("s"), mapping={"token": int(stored) + 86_400_000_000, "base": stored})
    await redis.zadd(keys.board("s"), {"ann": 7})
    assert (await verify(repair=True))["s"].repaired == 1
    assert await truth() == {"s": {"ann": 5, "bob": 5}}


async def test_more_than_one_repair_takes(add, drain, pool, redis, verify, truth, monkeypatch):
    monkeypatch.setattr("shared.board_check._RECHECK", 7)
    monkeypatch.setattr("shared.board_check._CHUNK", 10)
    monkeypatch.setattr("shared.ledger_check._FETCH", 10)
    await add(*(("s", f"u{number}", number + 1) for number in range(50)))
    await drain()
    await execute(pool, "update standings set score = score + 1")
    report = (await verify(repair=True))["s"]
    assert report.differences == {"standing wrong": 50}
    await redis.zadd(keys.board("s"), {f"u{number}": 1000 for number in range(50)})
    assert (await verify(repair=True))["s"].repaired == 50
    assert (await truth())["s"]["u49"] == 50


async def backlog_below(limit, pool, stop):
    async with pool.connection() as conn:
        pending = limit
        while pending >= limit and not stop.is_set():
            counted = await conn.execute("select count(*) from outbox where status = 'pending'")
            (pending,) = await counted.fetchone()


@pytest.mark.parametrize("repair", [False, True])
async def test_no_false_alarm_beside_writers_workers_crashes_and_resets(
    add, drain, pool, patient_pool, projection, truth, repair
):
    """Everything at once; each report must say equal, and repairs must find nothing to do."""
    verify = verification_of(patient_pool, projection)
    stop = asyncio.Event()
    steps = itertools.cycle(["projected", *[None] * 9])

    def crashing(reached):
        if reached == "projected" and next(steps) is not None:
            raise TimeoutError("stands for a commit that failed")

    async def write():
        for number in itertools.count():
            if stop.is_set():
                return
            await add(*((f"s{(number + n) % 3}", f"u{(number * 7 + n) % 50}", n % 5 - 7) for n in range(40)))
            # Where writing is faster than the workers, it would be the backlog that the test waits for.
            await backlog_below(400, pool, stop)

    async def reset():
        while not stop.is_set():
            async with patient_pool.connection() as conn, conn.transaction():
                await seasons.lock(conn, ["s1"])
                await seasons.begin_next_epoch(conn, "s1")
            await asyncio.sleep(0)
            await reconcile(patient_pool, projection, "s1")

    await add(*((f"s{number}", "ann", 1) for number in range(3)))
    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            applier = BatchApplier(pool, projection, 100, crashing)
            loop = Loop(applier, pool, projection, Floor(), asyncio.Event(), batch_size=100, poll_seconds=0)
            tasks.create_task(loop.run(stop))
        tasks.create_task(every(0.01, Audit(pool, projection).run, stop))
        tasks.create_task(write())
        tasks.create_task(reset())
        try:
            rounds = [await verify("s0", "s1", "s2", repair=repair, patience_seconds=300) for _ in range(12)]
        finally:
            stop.set()
    told = [
        (report.season_id, report.unsettled, dict(report.differences), report.named)
        for reports in rounds
        for report in reports.values()
        if report.differences or report.unsettled
    ]
    assert told == []
    await drain()
    await truth()
    assert all(report.equal for report in (await verify("s0", "s1", "s2")).values())


def forget_peak():
    """What this process has resident now, kB; its peak begins here."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name):
    """Of this process, kB."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


async def test_a_hundred_thousand_players_in_bounded_memory(pool, projection, verify, redis):
    """All wrong in every way: what is kept does not grow with the season."""
    await execute(pool, "insert into seasons (season_id, token) values ('s', 1)")
    await execute(
        pool,
        "insert into score_events (season_id, epoch, user_id, delta)"
        " select 's', 1, 'player-' || n, n from generate_series(1, 100000) as n",
    )
    await execute(
        pool,
        "insert into standings select season_id, epoch, user_id, delta, 1 from score_events",
    )
    await execute(pool, "analyze")
    await reconcile(pool, projection, "s")
    assert (await verify())["s"].equal
    await execute(pool, "update score_events set delta = delta + 1 where id % 2 = 0")
    await redis.zadd(keys.board("s"), {"player-1": 5})
    before = forget_peak()
    report = (await verify())["s"]
    grown = resident("VmHWM") - before
    assert report.differences == {"standing wrong": 50_000, "board wrong": 1}
    assert grown < 12_000
    await execute(pool, "update score_events set delta = delta - 1 where id % 2 = 0 and id % 16 > 0")
    report = (await verify(repair=True))["s"]
    assert report.repaired == 6_251
    assert (await verify())["s"].equal
