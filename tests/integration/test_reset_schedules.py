"""Seasons that reset themselves: what PUT sets, when the next moment is, and that each moment is carried out once."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt

import psycopg
import pytest
from conftest import CrashError, crashing_at
from redis.exceptions import ResponseError
from season_calls import SEASON, post, put, top

from api.app import api_connection
from shared import keys, ledger, reset_schedules, rewards
from shared.reconciliation import SeasonsUnreachableError
from shared.scores import Score
from worker.schedules import SCHEDULE_STEPS, ScheduledResets, SeasonEnds
from worker.upkeep import Audit, every

MONDAYS = {"cron": "0 0 * * 1", "timeZone": "Europe/Berlin", "archive": True}
WEEKLY = {"everyDays": 7, "startingAt": "2026-01-05T00:00:00Z", "timeZone": "UTC", "archive": False}
HOUR = dt.timedelta(hours=1)


def now():
    return dt.datetime.now(dt.UTC)


def moment(text):
    return dt.datetime.fromisoformat(text)


@pytest.fixture
def resets(pool, projection):
    return ScheduledResets(pool, projection, lambda _step: None)


@pytest.fixture
def ask(pool):
    async def rows(query, *parameters):
        async with pool.connection() as conn:
            return await (await conn.execute(query, parameters)).fetchall()

    return rows


@pytest.fixture
def make_due(pool):
    """As if the season's next moment had come so long ago; returns it."""

    async def move(ago=HOUR, season_id="race"):
        at = now() - ago
        async with pool.connection() as conn:
            changed = await conn.execute(
                "update reset_schedules set next_at = %s where season_id = %s", (at, season_id)
            )
            assert changed.rowcount == 1
        return at

    return move


ENDED = "select epoch, reason, archived from season_epochs where season_id = 'race' order by epoch"


async def test_put_sets_a_schedule_and_get_says_what_it_is(http):
    made = await put(http, 201, resets=MONDAYS)
    assert (made["resets"], made["previousReset"]) == (MONDAYS, None)
    following = moment(made["nextReset"])
    assert now() < following <= now() + dt.timedelta(days=8)
    assert following.astimezone(dt.UTC).hour in (22, 23)
    assert (await http.get(SEASON)).json() == made
    assert (await http.get("/v1/seasons")).json()["items"] == [made]
    found = await put(http, 200, resets={"everyDays": 7, "startingAt": "2126-01-07T01:00:00+01:00"})
    assert found["resets"] == {**WEEKLY, "startingAt": "2126-01-07T00:00:00Z"}
    assert found["nextReset"] == "2126-01-07T00:00:00Z"
    found = await put(http, 200)
    assert (found["resets"], found["nextReset"], found["previousReset"]) == (None, None, None)


@pytest.mark.parametrize(
    ("resets", "code"),
    [
        ({}, "invalid_schedule"),
        ({**MONDAYS, **WEEKLY}, "invalid_schedule"),
        ({"everyDays": 7}, "invalid_schedule"),
        ({"cron": "0 0 30 2 *"}, "invalid_schedule"),
        ({"cron": "0 0 * * 1", "timeZone": "Berlin"}, "invalid_schedule"),
        ({"everyDays": 0, "startingAt": "2026-01-05T00:00:00Z"}, "invalid_schedule"),
        ({"everyDays": 7, "startingAt": "1969-01-05T00:00:00Z"}, "invalid_schedule"),
        ({"everyDays": 7, "startingAt": "2026-01-05T00:00:00"}, "invalid_body"),
        ({"cron": "0 0 * * 1", "often": True}, "invalid_body"),
        ("weekly", "invalid_body"),
    ],
)
async def test_what_is_no_schedule_is_refused(http, resets, code):
    response = await http.put(SEASON, json={"resets": resets})
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert (await http.get(SEASON)).status_code == 404


@pytest.mark.parametrize(
    "resets", [{"cron": "0 0 29 2 *"}, {"everyDays": 3660, "startingAt": "1970-01-01T23:59:59Z"}], ids=["cron", "days"]
)
async def test_what_would_fire_beyond_the_last_year_is_refused(http, resets):
    response = await http.put(SEASON, json={"startsAt": "9998-12-30T00:00:00Z", "resets": resets})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_schedule")
    assert (await http.get(SEASON)).status_code == 404


async def test_what_is_due_is_carried_out_once_and_the_season_is_open_again(
    http, resets, projection, pool, make_due, ask, drain
):
    await put(http, resets=MONDAYS)
    assert await post(http, delta=5) == (202, None)
    await drain()
    await http.post(f"{SEASON}/close")
    at = await make_due()
    other = ScheduledResets(pool, projection, lambda _step: None)
    await asyncio.gather(resets.run(), other.run(), other.run())
    found = (await http.get(SEASON)).json()
    assert (found["epoch"], found["state"], found["players"]) == (2, "open", 0)
    assert (moment(found["previousReset"]), moment(found["nextReset"]) > now()) == (at, True)
    assert await ask(ENDED) == [(1, "close", True)]  # which came first
    assert await post(http, "bob", delta=7) == (202, None)
    await drain()
    assert await top(http) == [("bob", 7)]


async def test_days_without_a_worker_reset_once(http, resets, make_due, ask):
    await put(http, resets={"cron": f"{(now().minute + 30) % 60} * * * *"})  # never between the two rounds
    await make_due(dt.timedelta(days=3))
    seconds = await resets.run()
    assert 0 < seconds <= 3600
    await resets.run()
    assert await ask(ENDED) == [(1, "schedule", False)]


@pytest.mark.parametrize("step", SCHEDULE_STEPS[:4])
async def test_a_worker_that_dies_leaves_each_moment_to_be_carried_out_once(
    http, pool, projection, resets, make_due, ask, drain, truth, step
):
    await put(http, resets=WEEKLY)
    assert await post(http, delta=5) == (202, None)
    await drain()
    at = await make_due()
    with pytest.raises(CrashError):
        await ScheduledResets(pool, projection, crashing_at(step)).run()
    assert len(await ask(ENDED)) == (step in ("schedule_fired", "schedule_shown"))
    await resets.run()
    await Audit(pool, projection).run()
    assert await ask(ENDED) == [(1, "schedule", False)]
    assert moment((await http.get(SEASON)).json()["previousReset"]) == at
    assert await top(http) == []
    assert await truth() == {}


async def test_putting_the_same_schedule_again_neither_shifts_nor_drops_nor_repeats_a_moment(
    http, resets, make_due, ask
):
    await put(http, resets=WEEKLY)
    at = await make_due()
    found = await put(http, resets={**WEEKLY, "archive": True, "startingAt": "2026-01-05T02:00:00+02:00"}, metadata={})
    assert moment(found["nextReset"]) == at
    await resets.run()
    assert await ask(ENDED) == [(1, "schedule", True)]
    fired = (await http.get(SEASON)).json()
    again = await put(http, resets=WEEKLY)
    assert (again["nextReset"], again["previousReset"]) == (fired["nextReset"], fired["previousReset"])
    await resets.run()
    assert len(await ask(ENDED)) == 1


async def test_another_schedule_begins_with_its_next_moment(http, resets, make_due, ask):
    await put(http, resets=WEEKLY)
    await make_due()
    found = await put(http, resets=MONDAYS)
    assert moment(found["nextReset"]) > now()
    await resets.run()
    assert await ask(ENDED) == []


async def test_a_clock_that_was_set_back_repeats_no_moment(http, make_due, ask):
    """The moment that was carried out lies ahead of the clock: the next one comes after it."""
    await put(http, resets={"cron": "0 * * * *"})
    await make_due(dt.timedelta(seconds=1))
    ahead = (now() + 3 * HOUR).replace(minute=0, second=0, microsecond=0)
    await ask("update reset_schedules set previous_at = %s returning 1", ahead)
    found = await put(http, resets={"cron": "0 * * * *", "timeZone": "Europe/Berlin"})
    assert moment(found["nextReset"]) == ahead + HOUR


async def test_there_is_no_reset_outside_the_seasons_times(http, resets, make_due, ask):
    day = dt.timedelta(days=1)
    starts_at, ends_at = (now() + days * day for days in (10, 20))
    daily = {"everyDays": 1, "startingAt": starts_at.isoformat()}
    found = await put(http, resets=daily, startsAt=starts_at.isoformat(), endsAt=ends_at.isoformat())
    assert moment(found["nextReset"]) == starts_at + day  # not as it begins
    found = await put(http, resets=daily, endsAt=(starts_at - day).isoformat())
    assert found["nextReset"] is None
    found = await put(http, resets=daily, endsAt=ends_at.isoformat())
    assert moment(found["nextReset"]) == starts_at
    await make_due()
    await ask("update seasons set ends_at = now() returning 1")
    await resets.run()
    found = (await http.get(SEASON)).json()
    assert (found["epoch"], found["nextReset"], found["previousReset"]) == (1, None, None)


async def test_a_season_that_somebody_holds_keeps_no_other_from_its_reset(
    http, pool, patient_pool, projection, make_due, ask
):
    """However long it would be waited for."""
    for season_id in "abc":
        await put(http, path=f"/v1/seasons/{season_id}", resets=WEEKLY)
        await make_due(HOUR, season_id)
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from seasons where season_id = 'a' for update")
        run = asyncio.create_task(ScheduledResets(patient_pool, projection, lambda _step: None).run())
        while await ask("select season_id from season_epochs order by 1") != [("b",), ("c",)]:
            assert not run.done()
    await run
    assert await ask("select count(*) from season_epochs where season_id = 'a'") == [(1,)]


async def test_a_season_that_stays_held_is_left_to_the_next_round(http, pool, resets, make_due, ask):
    await put(http, resets=WEEKLY)
    at = await make_due()
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select from seasons for update")
        await resets.run()
    assert moment((await http.get(SEASON)).json()["nextReset"]) == at
    await resets.run()
    assert await ask(ENDED) == [(1, "schedule", False)]


async def test_a_season_that_redis_refuses_keeps_no_other_from_being_shown(http, redis, resets, make_due, add, drain):
    for season_id in "ab":
        await put(http, path=f"/v1/seasons/{season_id}", resets=WEEKLY)
        await add((season_id, "ann", 5))
        await drain()
        await make_due(HOUR * (2 if season_id == "a" else 1), season_id)
    await redis.delete(keys.board("a"))
    await redis.set(keys.board("a"), "no sorted set")
    with pytest.raises((SeasonsUnreachableError, ResponseError)):
        await resets.run()
    assert await top(http, "/v1/seasons/b") == []


async def test_putting_a_season_while_it_is_reset_by_schedule_waits_for_it(http, pool, projection, make_due, ask):
    """Both take the season's lock first: neither can hold what the other one needs next."""
    await put(http, resets=WEEKLY)
    for _ in range(5):
        await make_due()
        runs = (ScheduledResets(pool, projection, lambda _step: None).run() for _ in range(2))
        puts = (http.put(SEASON, json={"resets": WEEKLY, "metadata": {}}) for _ in range(4))
        answers = await asyncio.gather(*runs, *puts)
        assert {response.status_code for response in answers[2:]} == {200}
    assert await ask("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


async def test_the_task_rests_no_longer_than_until_the_next_moment(http, pool, projection, ask):
    stop = asyncio.Event()
    resets = ScheduledResets(pool, projection, lambda _step: None)
    await put(http, resets={"everyDays": 1, "startingAt": "2126-01-07T00:00:00Z"})
    ((soon,),) = await ask(
        "update reset_schedules set next_at = clock_timestamp() + interval '0.3 s' returning next_at"
    )
    task = asyncio.create_task(every(3600, resets.run, stop))
    try:
        while not (ended := await ask("select ended_at from season_epochs")):
            await asyncio.sleep(0)
        assert ended[0][0] >= soon
    finally:
        stop.set()
        await task


async def test_the_end_of_a_season_is_noted_once_where_somebody_asks_for_it(http, pool, ask):
    soon = (now() + HOUR).isoformat()
    await put(http, path="/v1/seasons/plain", endsAt=soon)
    await put(http, endsAt=soon, resets=MONDAYS)
    ends = SeasonEnds(pool, lambda _step: None)
    await ends.run()
    assert await ask(ENDED) == []
    await ask("update seasons set created_at = now() - interval '2 s', ends_at = now() - interval '1 s' returning 1")
    await ask("update season_ends set due_at = now() - interval '1 second' returning 1")
    with contextlib.suppress(CrashError):
        await SeasonEnds(pool, crashing_at("end_noted")).run()
    assert await ask(ENDED) == []
    await asyncio.gather(*(SeasonEnds(pool, lambda _step: None).run() for _ in range(3)))
    assert await ask("select season_id, epoch, reason, archived from season_epochs") == [("race", 1, "end", True)]
    assert await ask("select * from season_ends") == []


async def test_an_end_that_came_before_a_reset_is_not_that_of_the_epoch_behind_it(http, pool, ask):
    """Reset in the moment between the two: nobody had noted it yet."""
    await put(http, endsAt=(now() + HOUR).isoformat(), resets=MONDAYS)
    await ask("update seasons set ends_at = now() - interval '1 second' returning 1")
    await ask("update season_ends set due_at = now() - interval '1 second' returning 1")
    await http.delete(SEASON)
    await SeasonEnds(pool, lambda _step: None).run()
    assert await ask("select epoch, reason from season_epochs") == [(1, "reset")]


async def test_an_epoch_that_began_after_its_seasons_end_and_has_no_score_has_no_end_to_note(http, pool, ask):
    """It is as when nothing was noted: a later endsAt opens it, and whatever ends it, nobody is told."""
    ends = SeasonEnds(pool, lambda _step: None)
    earlier, later = ((now() + hours * HOUR).isoformat() for hours in (-1, 1))
    await put(http, resets=MONDAYS)
    assert await post(http, delta=1) == (202, None)
    await http.delete(SEASON)
    await put(http, endsAt=earlier, resets=MONDAYS)
    await ends.run()
    assert await ask("select * from season_ends") == []
    assert await ask(ENDED) == [(1, "reset", False)]
    assert (await put(http, endsAt=later, resets=MONDAYS))["state"] == "open"
    assert await post(http, delta=1) == (202, None)
    await put(http, endsAt=earlier, resets=MONDAYS)
    await ends.run()
    assert await ask(ENDED) == [(1, "reset", False), (2, "end", True)]


async def test_an_end_is_judged_once_all_is_there_that_was_on_its_way_as_it_was_set(http, pool, settings, ask):
    await put(http, resets=MONDAYS)
    async with (
        await psycopg.AsyncConnection.connect(api_connection(settings), autocommit=True) as conn,
        conn.transaction(),
    ):
        await ledger.append(conn, [Score("race", "ann", 1)])
        await put(http, endsAt=(now() - HOUR).isoformat(), resets=MONDAYS)
        noting = asyncio.create_task(SeasonEnds(pool, lambda _step: None).run())
        asked = (
            "select 1 from pg_stat_activity where datname = current_database() and query ~ '^\\s*select \\$1 < clock'"
        )
        while not await ask(asked):
            assert not noting.done()
    await noting
    assert await ask(ENDED) == [(1, "end", True)]


async def test_a_transaction_that_lasts_keeps_no_other_season_from_its_end(http, pool, settings, ask):
    ends = SeasonEnds(pool, lambda _step: None)
    earlier, other = (now() - HOUR).isoformat(), "/v1/seasons/other"
    await put(http, resets=MONDAYS, endsAt=earlier)
    await put(http, path=other, resets=MONDAYS)
    assert await post(http, path=other, delta=1) == (202, None)
    await put(http, path=other, resets=MONDAYS, endsAt=earlier)
    async with (
        await psycopg.AsyncConnection.connect(api_connection(settings), autocommit=True) as conn,
        conn.transaction(),
    ):
        await conn.execute("select 1")
        await ends.run()  # it waits for that for a moment, not to its end
        assert await ask("select season_id from season_ends") == [("race",)]
        assert await ask("select season_id, reason from season_epochs") == [("other", "end")]
    await ends.run()
    assert await ask("select season_id from season_ends") == []
    assert await ask("select season_id from season_epochs") == [("other",)]


@pytest.mark.parametrize(
    ("query", "index"),
    [(reset_schedules.DUE, "reset_schedules_next_at_idx"), (rewards.ENDED, "season_ends_due_at_idx")],
)
async def test_what_is_due_is_found_by_when_it_is(pool, query, index):
    many = "from generate_series(1, 20000) as n"
    async with pool.connection() as conn:
        await conn.execute(f"insert into season_ends select 's' || n, now() + n * interval '1 h' {many}")
        await conn.execute(
            "insert into reset_schedules (season_id, cron, time_zone, archive, next_at) "
            f"select 's' || n, '0 0 * * 1', 'UTC', false, now() + n * interval '1 h' {many}"
        )
        await conn.execute("analyze season_ends, reset_schedules")
        plan = await (await conn.execute(f"explain {query}", (["s1"], 100))).fetchall()
    assert any(index in row[0] for row in plan), plan
    assert not any("Seq Scan" in row[0] for row in plan), plan
