"""Boards as of a moment, by snapshots and what came since, against brute force over the ledger."""

from __future__ import annotations

import random
import re

import pytest
from past_boards import START, STEP, History, all_rules, assert_equal_at
from psycopg import sql

from shared import past, past_boards, snapshots
from shared.scores import MAX_SCORE


@pytest.mark.parametrize("rules", all_rules(), ids=lambda rules: " ".join(map(str, rules)))
async def test_boards_at_every_moment_are_what_the_ledger_says(pool, rules):
    rng = random.Random(str(rules))
    kept = 0
    async with pool.connection() as conn:
        for number in range(2):
            history = History(conn, f"season-{number}", rules, rng)
            await history.begin()
            for _ in range(40):
                await history.step()
            for moment in rng.sample(history.moments, 16):
                await assert_equal_at(conn, history, moment, rng)
            kept += history.snapshots
    assert kept > 2


@pytest.fixture
async def large_season(pool):
    """A season of 20,000 players with a snapshot, 200 scores since then, and one that was voided."""
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id, created_at) values ('s', %s)", (START,))
        add = (
            "insert into score_events (season_id, epoch, user_id, delta, created_at)"
            " select 's', 1, 'u' || n, n, %s from generate_series(%s::int, %s::int) as n"
        )
        await conn.execute(add, (START, 1, 20_000))
        (last,) = await (await conn.execute("select max(id) from score_events")).fetchone()
        season = await snapshots.of_season(conn, "s")
        assert await snapshots.keep(conn, season, START + STEP, low_id=last, high_id=last) == 20_000
        await conn.execute(add, (START + 2 * STEP, 1, 200))
        await conn.execute("update score_events set voided_at = %s where id = %s", (START + 2 * STEP, last))
        await conn.execute(
            "insert into snapshots (season_id, epoch, as_of, low_id, high_id, players, unsettled)"
            " select 'other', 1, now() + n * interval '1 second', n, n, 0, '{}' from generate_series(1, 2000) as n"
        )
        await conn.execute("vacuum analyze score_events, snapshot_standings, snapshots")
        yield conn


async def plan_of(conn, query, parameters):
    names = dict.fromkeys(re.findall(r"%\((\w+)\)s", query))
    values = sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names)
    async with conn.transaction(force_rollback=True):
        await conn.execute(query, parameters, prepare=True)
        last = "select name from pg_prepared_statements order by prepare_time desc limit 1"
        (prepared,) = await (await conn.execute(last, prepare=False)).fetchone()
        explain = sql.SQL("explain execute {}({})").format(sql.Identifier(prepared), values)
        return "\n".join(row[0] for row in await (await conn.execute(explain)).fetchall())


@pytest.mark.parametrize("kind", ["custom", "generic"])
async def test_nobody_reads_the_whole_season(large_season, kind):
    """What came since and whom it concerns is looked up by keys; the rest is a walk of the snapshot's board."""
    conn = large_season
    then = await past.at(conn, "s", START + 3 * STEP)
    assert then.snapshot.players == 20_000
    more = {"limit": 10, "offset": 5, "last": 15, "user_ids": ["u7", "u700"], "size": 5, "score": 9, "new_low_id": 1}
    asked = {**then.parameters(), **more}
    await conn.execute(f"set plan_cache_mode = force_{kind}_plan")
    await conn.execute("set enable_bitmapscan = on")
    for query in (
        past_boards.top_of(then.rules),
        past_boards.ranks_of(then.rules, "players", shared=False),
        past_boards.ranks_of(then.rules, "score", shared=True),
        past_boards.around_of(then.rules, "players"),
        past_boards.around_of(then.rules, "score"),
    ):
        plan = await plan_of(conn, query, asked)
        assert "Seq Scan on score_events" not in plan, plan
        assert "Seq Scan on snapshot_standings" not in plan, plan
        assert "score_events_amended_idx" in plan, plan
        assert "using snapshot_standings_pkey" in plan, plan
        assert "using snapshot_standings_board_idx" in plan, plan
    plan = await plan_of(conn, snapshots.make_of(then.rules), asked)
    assert "Seq Scan on score_events" not in plan, plan
    plan = await plan_of(conn, past.SNAPSHOT, asked)
    assert plan.count("snapshots_season_id_epoch_as_of_idx") == 2, plan


async def add_scores(conn, at, players, delta=1, status=None):
    """One of each player, and what the outbox says of it."""
    await conn.execute(
        "with added as (insert into score_events (season_id, epoch, user_id, delta, created_at)"
        " select 's', 1, 'u' || n, %s, %s from generate_series(1, %s::int) as n returning id, user_id)"
        " insert into outbox (id, event_type, season_id, epoch, user_id, delta, status)"
        " select id, 'score', 's', 1, user_id, %s, %s from added where %s::text is not null",
        (delta, at, players, delta, status, status),
    )


async def keep(conn, at):
    (last,) = await (await conn.execute("select max(id) from score_events")).fetchone()
    season = await snapshots.of_season(conn, "s")
    assert await snapshots.keep(conn, season, at, low_id=last, high_id=last) is not None
    return last


async def recounted(conn, moment):
    """The board's best, how many players are counted anew, and how many of the snapshot are looked up."""
    then = await past.at(conn, "s", moment)
    asked = {**then.parameters(), "limit": 1, "offset": 0, "last": 1}
    query = "explain (analyze, timing off, buffers off, costs off) " + past_boards.top_of(then.rules)
    plan = "\n".join(row[0] for row in await (await conn.execute(query, asked)).fetchall())
    found = re.search(r"CTE amended\n.*?rows=(\d+)", plan)
    page = await past_boards.top(conn, then, 1, 0, shared=False)
    return page.entries[0].score, page.total, int(found[1])


async def test_nobody_is_counted_anew_for_a_score_that_stays_failed(pool):
    """Whether it failed before the snapshot or came behind it: only where the snapshot may have it, or lacks it."""
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id, created_at) values ('s', %s)", (START,))
        await add_scores(conn, START, 3000)
        await add_scores(conn, START, 3000, 10, "failed")
        last = await keep(conn, START + STEP)
        await add_scores(conn, START + 2 * STEP, 3000, 10, "failed")
        await conn.execute("analyze score_events, outbox, snapshots, snapshot_standings")
        moment = START + 3 * STEP
        assert await recounted(conn, moment) == (1, 3000, 0)
        assert await keep(conn, START + 3 * STEP) > last
        assert await recounted(conn, START + 4 * STEP) == (1, 3000, 0)
        await conn.execute("delete from outbox where user_id in ('u1', 'u2')")
        assert await recounted(conn, START + 4 * STEP) == (21, 3000, 2)
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status)"
            " select min(id), 'score', 's', 1, 'u3', 1, 'failed' from score_events where user_id = 'u3'"
        )
        assert await recounted(conn, START + 4 * STEP) == (21, 2999, 3)


@pytest.mark.parametrize("sign", [1, -1])
async def test_a_sum_that_is_about_to_fail_is_cut(pool, sign):
    """What is cut is not taken for what it was: the next scores are added to all that came."""
    async with pool.connection() as conn:
        query = "insert into seasons (season_id, created_at, sort_order) values ('s', %s, %s)"
        await conn.execute(query, (START, "desc" if sign > 0 else "asc"))
        await add_scores(conn, START, 1, sign * MAX_SCORE)
        await add_scores(conn, START, 1, sign * 7, "pending")
        assert (await recounted(conn, START))[0] == sign * MAX_SCORE
        await keep(conn, START + STEP)
        assert (await recounted(conn, START + STEP))[0] == sign * MAX_SCORE
        await add_scores(conn, START + 2 * STEP, 1, sign * -10)
        assert (await recounted(conn, START + 2 * STEP))[0] == sign * (MAX_SCORE - 3)
        await conn.execute("update outbox set status = 'failed'")
        assert (await recounted(conn, START + STEP))[0] == sign * MAX_SCORE
        assert (await recounted(conn, START + 2 * STEP))[0] == sign * (MAX_SCORE - 10)
