"""Which of a player's scores counts and who stands first, for every aggregation and order."""

from __future__ import annotations

import contextlib
import random

import pytest
from conftest import CrashError, crashing_at
from season_calls import SEASON, post, put, top

from shared import keys, ledger
from shared.scores import Score
from shared.verification import Verification
from worker.batch import BatchApplier


@pytest.mark.parametrize(
    ("aggregation", "order", "expected"),
    [
        ("best", "desc", [("bob", 9), ("ann", 7), ("cid", -2)]),
        ("best", "asc", [("cid", -3), ("ann", 2), ("bob", 9)]),
        ("latest", "desc", [("bob", 9), ("ann", 4), ("cid", -3)]),
        ("latest", "asc", [("cid", -3), ("ann", 4), ("bob", 9)]),
    ],
)
async def test_what_counts_and_who_stands_first(http, drain, truth, aggregation, order, expected):
    await put(http, aggregation=aggregation, order=order)
    for user_id, score in (("ann", 2), ("bob", 9), ("ann", 7), ("cid", -2), ("ann", 4), ("cid", -3)):
        assert await post(http, user_id, score=score) == (202, None)
    await drain()
    await truth()
    assert await top(http) == expected
    for rank, (user_id, score) in enumerate(expected, start=1):
        found = (await http.get(f"{SEASON}/leaderboard/rank", params={"userId": user_id})).json()
        assert (found["rank"], found["score"]) == (rank, score)
        around = (await http.get(f"{SEASON}/leaderboard/around", params={"userId": user_id, "range": 1})).json()
        places = [(item["rank"], item["userId"], item["score"]) for item in around["items"]]
        assert places == [(n + 1, *expected[n]) for n in range(3) if abs(n + 1 - rank) <= 1]


async def test_low_sums_can_be_the_better_ones(http, drain, truth):
    """Strokes of a round of golf."""
    await put(http, order="asc")
    for user_id, delta in (("ann", 3), ("bob", 4), ("ann", 5), ("bob", 2)):
        await post(http, user_id, delta=delta)
    await drain()
    await truth()
    assert await top(http) == [("bob", 6), ("ann", 8)]


async def test_the_order_comes_back_with_a_lost_board(http, drain, redis):
    await put(http, aggregation="best", order="asc")
    for user_id, score in (("ann", 2), ("bob", 1)):
        await post(http, user_id, score=score)
    await drain()
    await redis.delete(keys.board("race"), keys.meta("race"))
    await post(http, "cid", score=3)
    await drain()
    assert await top(http) == [("bob", 1), ("ann", 2), ("cid", 3)]


async def test_the_latest_score_is_the_one_that_came_last_whatever_the_clock_says(http, pool, drain, truth):
    await put(http, aggregation="latest")
    assert await post(http, score=10) == (202, None)
    async with pool.connection() as conn:  # the clock was five seconds ahead, and is right now
        for table in ("outbox", "score_events"):
            await conn.execute(f"update {table} set created_at = created_at + interval '5 s'")
    assert await post(http, score=20) == (202, None)
    await drain()
    assert await truth() == {"race": {"ann": 20}}


@pytest.mark.parametrize(
    ("aggregation", "order"), [("best", "desc"), ("best", "asc"), ("latest", "desc"), ("latest", "asc")]
)
async def test_any_order_of_batches_comes_to_the_same(http, pool, projection, truth, aggregation, order):
    """Some events come first, in batches of any size, the others later; now and then a batch dies having shown its."""
    rng = random.Random(f"{aggregation} {order}")
    for case in range(60):
        season_id = f"{aggregation}-{order}-{case}"
        await put(http, path=f"/v1/seasons/{season_id}", aggregation=aggregation, order=order)
        async with pool.connection() as conn:
            for _ in range(rng.randint(1, 12)):  # each at a time of its own
                score = Score(season_id, rng.choice(("ann", "bob")), rng.randint(-3, 3), absolute=True)
                await ledger.append(conn, [score])
            await conn.execute(
                "update outbox set status = 'failed' where status = 'pending' and mod(id, %s) = 0", (rng.randint(1, 4),)
            )
            for status in ("none", "failed"):
                await conn.execute("update outbox set status = 'pending' where status = %s", (status,))
                size = rng.randint(1, 5)
                if rng.random() < 0.5:
                    with contextlib.suppress(CrashError):
                        dying = BatchApplier(pool, projection, rng.randint(1, 5), crashing_at("projected"))
                        await dying.apply(floor=0, paused=[])
                while (await BatchApplier(pool, projection, size, lambda _: None).apply(floor=0, paused=[])).events:
                    pass
    boards = await truth()
    assert len(boards) == 60


@pytest.mark.parametrize(
    ("aggregation", "order", "right"), [("best", "desc", 7), ("best", "asc", 2), ("latest", "desc", 4)]
)
async def test_a_standing_that_is_not_what_its_events_say_is_found_and_mended(
    http, pool, projection, drain, truth, aggregation, order, right
):
    await put(http, aggregation=aggregation, order=order)
    for score in (2, 7, 4):
        await post(http, score=score)
    await drain()

    async def verified(*, repair):
        verification = Verification(pool, projection, repair=repair, patience_seconds=0)
        (report,) = [found async for found in verification.run(["race"])]
        return [(each.kind, each.expected, each.found) for each in report.named]

    async def reached():
        async with pool.connection() as conn:
            return await (await conn.execute("select score, reached_at, reached_by from standings")).fetchall()

    before = await reached()
    assert await verified(repair=False) == []
    for score, reached_by in ((99, 99), (right, None), (right, 99)):
        async with pool.connection() as conn:
            await conn.execute(
                "update standings set score = %s, reached_at = null, reached_by = %s", (score, reached_by)
            )
        assert ("standing wrong", right, score) in await verified(repair=True)
        assert await reached() == before
    assert await truth() == {"race": {"ann": right}}
    assert await verified(repair=False) == []
