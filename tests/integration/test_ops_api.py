"""What operators ask over HTTP: the gauge, failed events, comparing and rebuilding on a connection."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from conftest import client_of, make_settings, serving

from api import ops_ledger
from api.app import create_app
from shared import keys, seasons
from shared.outbox_gauge import RATE_SECONDS, SAMPLE, per_second
from shared.scores import MAX_SCORE

OPS = "/v1/ops"


async def lines_of(response):
    return [msgspec.json.decode(line) async for line in response.aiter_lines()]


async def worked(http, what, body):
    async with http.stream("POST", f"{OPS}/{what}", json=body) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/x-ndjson"
        return await lines_of(response)


def of_type(lines, kind):
    return [line for line in lines if line["type"] == kind]


@pytest.fixture
async def poisoned(add, drain):
    """Ann has all that a board can hold; three more points of hers failed, and one of Eve's in another season."""
    await add(("s", "ann", MAX_SCORE), ("s", "bob", 1), ("t", "eve", MAX_SCORE))
    await drain()
    await add(("s", "ann", 1), ("s", "ann", 2), ("s", "ann", 3), ("t", "eve", 1))
    await drain()


async def failed_ids(http, **query):
    page = (await http.get(f"{OPS}/failed", params=query)).json()
    return [event["id"] for event in page["items"]], page["nextCursor"]


async def test_the_gauge_counts_what_waits_and_what_failed(http, add, poisoned):  # noqa: ARG001
    await add(("s", "bob", 1), ("s", "cid", 1))
    gauge = (await http.get(f"{OPS}/outbox")).json()
    assert (gauge["pending"], gauge["pendingExact"], gauge["failed"]) == (2, True, 4)
    assert gauge["oldestPendingSeconds"] >= 0
    assert gauge["acceptedPerSecond"] >= 9 / RATE_SECONDS
    assert gauge["donePerSecond"] >= 3 / RATE_SECONDS
    assert gauge["failedBySeason"] == [{"seasonId": "s", "events": 3}, {"seasonId": "t", "events": 1}]
    (reason,) = gauge["failedByReason"]
    assert "standings_score_check" in reason["reason"]
    assert reason["events"] == 4


async def test_an_empty_outbox_has_a_gauge_too(http):
    gauge = (await http.get(f"{OPS}/outbox")).json()
    assert (gauge["pending"], gauge["oldestPendingSeconds"], gauge["failedBySeason"]) == (0, None, [])


def test_a_rate_is_of_the_last_seconds_or_of_what_the_sample_spans():
    assert per_second(0, None, None) == 0
    assert per_second(10, 1.0, False) == 10 / RATE_SECONDS
    assert per_second(5000, 0.5, True) == 10_000


async def test_rates_of_more_than_is_looked_at_are_of_the_span_of_what_is(http, pool):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, processed_at)"
            " select id, 'score', 's', 1, 'ann', 1, 'done', now() from generate_series(1, 2 * %s) as id",
            (SAMPLE,),
        )
    gauge = (await http.get(f"{OPS}/outbox")).json()
    assert gauge["acceptedPerSecond"] > SAMPLE / RATE_SECONDS
    assert gauge["donePerSecond"] > SAMPLE / RATE_SECONDS


async def test_activity_names_the_processes(http, pool, add, drain):
    await add(("s", "ann", 1))
    await drain()
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("select 1")
        found = (await http.get(f"{OPS}/activity")).json()
    sessions = {one["process"]: one for one in found["sessions"]}
    assert {"api", "ops", "worker"} <= sessions.keys()
    assert sessions["worker"]["busy"] >= 1
    assert sessions["worker"]["transactionSeconds"] >= 0
    assert found["lastBatchSeconds"] >= 0


@pytest.mark.usefixtures("poisoned")
async def test_failed_events_are_listed_a_page_at_a_time(http):
    first, cursor = await failed_ids(http, limit=3)
    second, end = await failed_ids(http, limit=3, cursor=cursor)
    assert (len(first), len(second), end) == (3, 1, None)
    assert first + second == sorted(first + second, reverse=True)
    assert len((await failed_ids(http, seasonId="s"))[0]) == 3
    assert (await http.get(f"{OPS}/failed?cursor=x")).json()["code"] == "invalid_cursor"


@pytest.mark.usefixtures("poisoned")
async def test_retry_and_discard_by_id_and_by_season(http, add, drain, truth):
    (last, *_), _ = await failed_ids(http, seasonId="s")
    answer = await http.post(f"{OPS}/failed/retry", json={"ids": [last, last + 1000]})
    told = answer.json()
    assert (told["changed"], told["complete"]) == (1, True)
    assert [one["id"] for one in told["refused"]] == [last + 1000]
    assert await drain() == 1
    await add(("s", "ann", -10))
    await drain()
    assert (await http.post(f"{OPS}/failed/retry", json={"seasonId": "s"})).json()["changed"] == 3
    await drain()
    assert (await truth())["s"]["ann"] == MAX_SCORE - 10 + 6
    told = (await http.post(f"{OPS}/failed/discard", json={"seasonId": "t"})).json()
    assert told == {"changed": 1, "refused": [], "left": 0, "complete": True}
    assert (await http.get(f"{OPS}/outbox")).json()["failed"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "invalid_body"),
        ({"ids": [1], "seasonId": "s"}, 400, "invalid_body"),
        ({"ids": []}, 400, "invalid_body"),
        ({"ids": [0]}, 400, "invalid_body"),
        ({"seasonId": "no such"}, 400, "invalid_season_id"),
        ({"seasonId": "none"}, 404, "season_not_found"),
    ],
)
async def test_a_choice_of_events_is_one_or_the_other(http, body, status, code):
    for what in ("retry", "discard"):
        answer = await http.post(f"{OPS}/failed/{what}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_verify_tells_each_season_and_repairs(http, add, drain, redis):
    await add(("s", "ann", 5), ("t", "bob", 3))
    await drain()
    lines = await worked(http, "verify", {"seasonIds": None})
    assert lines[0] == {"type": "progress", "seasons": 0, "ofSeasons": 2, "players": 0}
    assert [line["seasonId"] for line in of_type(lines, "season")] == ["s", "t"]
    assert lines[-1]["type"] == "finished"
    assert lines[-1]["equal"]
    await redis.zadd(keys.board("s"), {"ann": 99})
    (report,) = of_type(await worked(http, "verify", {"seasonIds": ["s"]}), "season")
    assert (report["equal"], report["differences"]) == (False, {"boardWrong": 1})
    assert report["first"] == [{"kind": "boardWrong", "userId": "ann", "window": None, "expected": 5.0, "found": 99.0}]
    (report,) = of_type(await worked(http, "verify", {"seasonIds": ["s"], "repair": True}), "season")
    assert (report["equal"], report["repaired"]) == (True, 1)
    assert await redis.zscore(keys.board("s"), "ann") == 5


async def test_rebuild_tells_each_board(http, add, drain, redis):
    await add(("s", "ann", 5), ("s", "bob", 6), ("t", "bob", 3))
    await drain()
    await redis.delete(keys.board("s"))
    lines = await worked(http, "rebuild", {"seasonIds": ["s", "t"]})
    assert [(line["seasonId"], line["players"]) for line in of_type(lines, "season")] == [("s", 2), ("t", 1)]
    assert lines[-1] == {"type": "finished", "seasons": 2, "players": 3}
    assert await redis.zcard(keys.board("s")) == 2


async def test_no_season_and_unknown_ones(http):
    assert of_type(await worked(http, "rebuild", {"seasonIds": None}), "finished")[0]["seasons"] == 0
    for what in ("verify", "rebuild"):
        answer = await http.post(f"{OPS}/{what}", json={"seasonIds": ["none"]})
        assert (answer.status_code, answer.json()["code"]) == (404, "season_not_found")


_WAITS = "select pid from pg_stat_activity where application_name = 'leaderboard-ops' and wait_event_type = 'Lock'"


@contextlib.asynccontextmanager
async def season_held(pool, season_id):
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, [season_id])
        yield


async def test_one_rebuild_at_a_time_and_a_client_that_leaves_ends_it(
    settings, monkeypatch, add, drain, pool, eventually
):
    monkeypatch.setattr(ops_ledger, "_LOCK_SECONDS", 600)  # by itself it would wait for ever
    await add(("s", "ann", 5))
    await drain()
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        async with season_held(pool, "s"):
            async with http.stream("POST", f"{OPS}/rebuild", json={"seasonIds": ["s"]}) as response:
                assert response.status_code == 200
                await eventually(_WAITS)
                second = await http.post(f"{OPS}/rebuild", json={"seasonIds": ["s"]})
                assert (second.status_code, second.json()["code"]) == (409, "already_running")
            await eventually(_WAITS, gone=True)
        while (await http.post(f"{OPS}/rebuild", json={"seasonIds": ["s"]})).status_code == 409:
            await asyncio.sleep(0)
        assert of_type(await worked(http, "rebuild", {"seasonIds": ["s"]}), "finished")


async def test_a_service_that_stops_ends_the_work_and_says_so(settings, add, drain, pool, eventually):
    await add(("s", "ann", 5))
    await drain()
    async with season_held(pool, "s"), client_of("") as http:
        async with serving(create_app(settings)) as base_url:
            http.base_url = base_url
            rebuilding = asyncio.create_task(worked(http, "rebuild", {"seasonIds": ["s"]}))
            await eventually(_WAITS)
        lines = await rebuilding
    assert (lines[-1]["type"], lines[-1]["code"]) == ("failed", "unavailable")
    assert "stops" in lines[-1]["error"]


async def test_trouble_midway_is_the_last_line(http, add, drain, pool, eventually):
    await add(("s", "ann", 5))
    await drain()
    async with season_held(pool, "s"):
        rebuilding = asyncio.create_task(worked(http, "rebuild", {"seasonIds": ["s"]}))
        await eventually(f"with waiting as materialized ({_WAITS}) select from waiting where pg_terminate_backend(pid)")
        lines = await rebuilding
    assert (lines[-1]["type"], lines[-1]["code"]) == ("failed", "postgres_unavailable")
    assert "rolled back" in lines[-1]["error"]


async def test_it_needs_an_admin_key(dsn, servers, redis):  # noqa: ARG001 - emptied before
    settings = make_settings(dsn, servers.redis_url, admin_key="k" * 40)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        for method, path in (("GET", "outbox"), ("GET", "activity"), ("GET", "failed"), ("POST", "verify")):
            assert (await http.request(method, f"{OPS}/{path}")).status_code == 401
            wrong = {"Authorization": "Bearer nonsense"}
            assert (await http.request(method, f"{OPS}/{path}", headers=wrong)).status_code == 401
        right = {"Authorization": f"Bearer {'k' * 40}"}
        assert (await http.get(f"{OPS}/outbox", headers=right)).status_code == 200
