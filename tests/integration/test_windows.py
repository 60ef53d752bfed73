"""Time windows and ties against brute force over the ledger: scores leave as they age, with no new write."""

from __future__ import annotations

import contextlib
import datetime as dt
import random

import pytest
from conftest import CrashError, crashing_at
from season_calls import SEASON, post, put
from season_world import World, told
from window_calls import MINUTE, expected_boards, let_pass, shown_boards

from shared import keys, ledger
from shared.scores import MAX_SCORE, Rules, Score
from shared.verification import Verification
from worker.batch import BatchApplier
from worker.sweep import Sweep

RULES = [
    Rules(aggregation, order, windows, tie_break)
    for aggregation, order in (("sum", "desc"), ("best", "desc"), ("best", "asc"), ("latest", "desc"), ("sum", "asc"))
    for windows, tie_break in ((True, "earliest"), (True, "member"), (False, "earliest"))
]


GHOST = """
insert into window_buckets
select season_id, epoch, 'ghost', minute, 5, reached_at, reached_by, leaves_at from window_buckets where user_id = 'bob'
"""


@pytest.fixture
def sweep(pool, projection):
    return Sweep(pool, projection, lambda _step: None)


@pytest.mark.parametrize("rules", RULES, ids=told)
async def test_whatever_happens_boards_are_what_the_ledger_says(pool, redis, projection, rules):
    rng = random.Random(told(rules))
    most = []
    for case in range(8):
        world = World(rng, rules, f"s{case}", pool, redis, projection)
        async with pool.connection() as conn:
            await ledger.create_seasons(conn, [world.season_id], rules)
        steps = [world.score] * 6 + [world.batch] * 3 + [world.sweep, world.time, world.loss, world.reset]
        for _ in range(rng.randint(5, 60)):
            await rng.choice(steps)()
        most.append(await world.settle())
        while rules.windows and any(most[-1][1:]):  # until all have left every window
            await world.time()
            most.append(await world.settle())
        verification = Verification(pool, projection, repair=False, patience_seconds=5)
        (report,) = [report async for report in verification.run([world.season_id])]
        assert report.equal, report
    assert max(len(board) for boards in most for board in boards) == 5
    if rules.windows:
        assert any(len(set(map(tuple, boards))) == 4 for boards in most), "all four boards differ now and then"


async def test_a_score_leaves_with_its_minute_and_no_earlier(pool, redis, projection, sweep):
    """The last minute that is a window's age is in it, the one before it no more."""
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("best", windows=True))
        now = dt.datetime.now(dt.UTC)
        minute = now.replace(second=0, microsecond=0)
        inside, outside = minute - dt.timedelta(hours=24), minute - dt.timedelta(hours=24) - MINUTE * 1.01
        await ledger.append(conn, [Score("s", "in", 1, absolute=True, occurred_at=inside)])
        await ledger.append(conn, [Score("s", "out", 2, absolute=True, occurred_at=outside)])
    await BatchApplier(pool, projection, 500, lambda _step: None).apply(floor=0, paused=[])
    shown = await redis.zrange(keys.board("s", "24h"), 0, -1)
    if dt.datetime.now(dt.UTC) < minute + MINUTE:  # else the minute has passed meanwhile
        assert shown == ["in"]
    assert await redis.zrange(keys.board("s", "3d"), 0, -1) == ["in", "out"]
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1)
    await sweep.run()
    assert await redis.zrange(keys.board("s", "24h"), 0, -1) == []
    assert await redis.zrange(keys.board("s", "3d"), 0, -1) == ["in", "out"]
    assert await redis.zrange(keys.board("s"), 0, -1) == ["in", "out"]


@pytest.mark.parametrize("rules", [rules for rules in RULES if rules.windows and rules.aggregation != "sum"], ids=told)
async def test_what_a_dead_batch_showed_in_a_window_goes_though_it_counts_nowhere_any_more(
    pool, redis, projection, rules
):
    """By the time the score is folded it has left the window, and in the others it counts less than what is there."""
    better, worse = (1, 5) if rules.order == "asc" else (5, 1)
    now = dt.datetime.now(dt.UTC)
    applier = BatchApplier(pool, projection, 500, lambda _step: None)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], rules)
        scores = [(better, dt.timedelta(hours=48)), (worse, dt.timedelta(hours=23, minutes=59))]
        if rules.aggregation == "latest":
            scores.reverse()
        for score, age in scores:
            await ledger.append(conn, [Score("s", "ann", score, absolute=True, occurred_at=now - age)])
        (late,) = await (await conn.execute("select id from outbox where delta = %s", (worse,))).fetchone()
        await conn.execute("update outbox set status = 'failed' where id = %s", (late,))
        await applier.apply(floor=0, paused=[])
        await conn.execute("update outbox set status = 'pending' where id = %s", (late,))
    with contextlib.suppress(CrashError):
        await BatchApplier(pool, projection, 500, crashing_at("projected")).apply(floor=0, paused=[])
    assert await redis.zcard(keys.board("s", "24h")) == 1
    async with pool.connection() as conn:
        await let_pass(conn, redis, 5)
        await applier.apply(floor=0, paused=[])
        assert await shown_boards(conn, redis, "s") == await expected_boards(conn, "s")
    assert await redis.zcard(keys.board("s", "24h")) == 0


async def test_a_season_without_windows_has_no_minutes(http, pool, drain):
    await put(http, aggregation="best", tieBreak="earliest")
    assert await post(http, score=5) == (202, None)
    assert await post(http, delta=5, path="/v1/seasons/plain") == (202, None)
    await drain()
    async with pool.connection() as conn:
        assert await (await conn.execute("select * from window_buckets")).fetchall() == []


async def test_of_what_has_left_all_windows_no_minute_stays(http, pool, redis, drain, sweep):
    await put(http, windows=True)
    for hours in (0, *range(23, 9 * 24 - 1, 24)):  # an hour before it leaves: no clock gets there meanwhile
        at = dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours)
        assert await post(http, delta=1, occurredAt=at.isoformat()) == (202, None)
    await drain()
    async with pool.connection() as conn:
        assert await (await conn.execute("select count(*) from window_buckets")).fetchone() == (8,)
        await let_pass(conn, redis, 7 * 1440 + 2)
        await sweep.run()
        assert await (await conn.execute("select * from window_buckets")).fetchall() == []


async def test_a_reset_leaves_no_minutes_behind(http, pool, redis, drain, sweep):
    await put(http, windows=True)
    assert await post(http, delta=1) == (202, None)
    await drain()
    assert (await http.delete(SEASON)).status_code == 200
    assert await post(http, "bob", delta=1) == (202, None)
    await drain()
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1442)
        await sweep.run()
        rows = await (await conn.execute("select epoch, user_id from window_buckets")).fetchall()
    assert rows == [(2, "bob")]


async def test_more_than_a_sweep_takes_at_once(pool, redis, projection, sweep):
    async with pool.connection() as conn:
        seasons = [f"s{number}" for number in range(5)]
        await ledger.create_seasons(conn, seasons, Rules("sum", windows=True))
        await ledger.append(conn, [Score(season, f"u{n}", 1) for season in seasons for n in range(500)])
    applier = BatchApplier(pool, projection, 500, lambda _step: None)
    while (await applier.apply(floor=0, paused=[])).events:
        pass
    assert await redis.zcard(keys.board("s4", "24h")) == 500
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1442)
    await sweep.run()
    assert [await redis.zcard(keys.board(season, "24h")) for season in seasons] == [0] * 5
    assert [await redis.zcard(keys.board(season, "3d")) for season in seasons] == [500] * 5


async def test_a_window_whose_sum_no_board_holds_exactly_shows_the_most_that_one_does(pool, redis, projection, sweep):
    """The total is in bounds, because of what was taken away before the window begins."""
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("sum", windows=True))
        before = dt.datetime.now(dt.UTC) - dt.timedelta(hours=30)
        await ledger.append(conn, [Score("s", "ann", -MAX_SCORE, occurred_at=before)])
        for _ in range(2):
            await ledger.append(conn, [Score("s", "ann", MAX_SCORE)])
    applier = BatchApplier(pool, projection, 500, lambda _step: None)
    assert (await applier.apply(floor=0, paused=[])).failed == 0
    assert await redis.zscore(keys.board("s"), "ann") == MAX_SCORE
    assert await redis.zscore(keys.board("s", "24h"), "ann") == MAX_SCORE
    assert await redis.zscore(keys.board("s", "3d"), "ann") == MAX_SCORE
    async with pool.connection() as conn:
        await ledger.append(conn, [Score("s", "ann", -MAX_SCORE)])
    await applier.apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "ann") == 0
    assert await redis.zscore(keys.board("s", "24h"), "ann") == MAX_SCORE  # exact in between
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1442)
    await sweep.run()
    assert await redis.zscore(keys.board("s", "24h"), "ann") is None


async def test_a_window_whose_sum_no_number_holds_keeps_no_score_from_leaving(pool, redis, projection, sweep):
    """Thousands of scores of the largest size, and as many that take them away again and leave first."""
    now = dt.datetime.now(dt.UTC)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("sum", windows=True))
        pair = [
            Score("s", "ann", sign * MAX_SCORE, occurred_at=now - dt.timedelta(hours=hours))
            for sign, hours in ((1, 1), (-1, 23))
        ]
        for _ in range(10):
            await ledger.append(conn, pair * 250)
        await ledger.append(conn, [Score("s", "bob", 1)])
    applier = BatchApplier(pool, projection, 500, lambda _step: None)
    while (batch := await applier.apply(floor=0, paused=[])).events:
        assert batch.failed == 0
    for minutes, shown in ((120, {"ann": MAX_SCORE, "bob": 1}), (1321, {})):
        async with pool.connection() as conn:
            await let_pass(conn, redis, minutes)
            await sweep.run()
            assert dict((await shown_boards(conn, redis, "s"))[1]) == shown
    verification = Verification(pool, projection, repair=False, patience_seconds=5)
    (report,) = [report async for report in verification.run(["s"])]
    assert report.equal, report


async def test_what_has_left_does_not_come_back_when_the_clock_steps_back(pool, redis, projection, sweep):
    """What time it is, the last token says: here that of a batch of two hours from now."""
    now = dt.datetime.now(dt.UTC)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("best", windows=True))
        later = int((now + dt.timedelta(hours=2)).timestamp() * 1_000_000)
        await conn.execute("update seasons set token = %s", (later,))
        at = now - dt.timedelta(hours=23)
        await ledger.append(
            conn, [Score("s", "ann", 5, absolute=True, occurred_at=at), Score("s", "bob", 5, absolute=True)]
        )
        await BatchApplier(pool, projection, 500, lambda _step: None).apply(floor=0, paused=[])
        await sweep.run()
        assert await redis.zrange(keys.board("s", "24h"), 0, -1) == ["bob"]
        assert await shown_boards(conn, redis, "s") == await expected_boards(conn, "s")


async def test_what_a_dead_sweep_let_go_of_is_no_difference(add, pool, redis, projection, sweep, drain):
    """The minute is still due: a comparison waits for it, and reports nothing."""
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], Rules("sum", windows=True))
        await add(("s", "ann", 5))
        await drain()
        await let_pass(conn, redis, 1442)
    with contextlib.suppress(CrashError):
        await Sweep(pool, projection, crashing_at("left_projected")).run()
    assert await redis.zcard(keys.board("s", "24h")) == 0
    for waited, settled in ((0.0, False), (60.0, True)):
        verification = Verification(pool, projection, repair=True, patience_seconds=waited)
        if settled:
            await sweep.run()
        (report,) = [report async for report in verification.run(["s"])]
        assert (report.differences.total(), report.unsettled is None) == (0, settled)
    assert await redis.zcard(keys.board("s", "3d")) == 1


@pytest.mark.parametrize("rules", [RULES[0], RULES[4], RULES[6]], ids=told)
@pytest.mark.parametrize(
    ("damage", "kinds"),
    [
        ("update standings set windows[1] = 77 where user_id = 'ann'", {"standing wrong"}),
        ("update standings set windows[4] = null, windows[5] = null where user_id = 'ann'", {"standing missing"}),
        ("update standings set windows[8] = windows[8] - 1", {"standing wrong"}),
        ("delete from window_buckets where user_id = 'bob'", {"minute missing"}),
        ("update window_buckets set score = score + 1", {"minute wrong"}),
        ("update window_buckets set leaves_at = leaves_at + interval '1 hour'", {"minute wrong"}),
        (GHOST, {"minute extra"}),
        (("zrem", "24h"), {"board behind"}),
        (("zadd", "3d"), {"board wrong"}),
        (("delete", "7d"), {"board behind"}),
    ],
)  # fmt: skip
async def test_damage_to_windows_is_found_and_mended(pool, redis, projection, drain, rules, damage, kinds):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"], rules)
        absolute = rules.aggregation != "sum"
        await ledger.append(conn, [Score("s", user_id, 5, absolute=absolute) for user_id in ("ann", "bob", "cid")])
        await drain()
        if isinstance(damage, str):
            await conn.execute(damage)
        else:
            command, window = damage
            board = keys.board("s", window)
            member = (await redis.zrange(board, 0, 0))[0]
            arguments = {"zrem": (member,), "zadd": ({member: 9},), "delete": ()}[command]
            await getattr(redis, command)(board, *arguments)
        verify = Verification(pool, projection, repair=False, patience_seconds=0.1)
        (report,) = [report async for report in verify.run(["s"])]
        assert kinds <= set(report.differences)
        assert not report.equal
        mend = Verification(pool, projection, repair=True, patience_seconds=0.1)
        (report,) = [report async for report in mend.run(["s"])]
        (report,) = [report async for report in verify.run(["s"])]
        assert report.equal, report
        assert await shown_boards(conn, redis, "s") == await expected_boards(conn, "s")
        await let_pass(conn, redis, 1442)
        await Sweep(pool, projection, lambda _step: None).run()
        assert await shown_boards(conn, redis, "s") == await expected_boards(conn, "s")
