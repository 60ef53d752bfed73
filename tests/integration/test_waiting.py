"""Reads that wait for a score, and scores that wait for the board: what is answered, when, and who is let go."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from functools import partial

import pytest
from conftest import client_of, make_settings, serving
from patience import NEVER, look_for_ever, wait_for_ever
from season_calls import SEASON

from api.app import create_app
from api.top_cache import TopCache
from api.visibility import Visibility
from shared import events, ledger
from shared.postgres import create_pool
from shared.scores import MAX_SCORE, Score
from worker.app import worker_connection

STORED = "select from outbox where status = 'pending'"


async def send(http, user_id="ann", wait=None, key=None, **body):
    params = {} if wait is None else {"wait": wait}
    headers = {} if key is None else {"Idempotency-Key": key}
    return await http.post(f"{SEASON}/scores", json={"userId": user_id, **body}, params=params, headers=headers)


async def event_id_of(http, user_id="ann", **body):
    return (await send(http, user_id, **body)).json()["eventId"]


async def read(http, read="top", **query):
    response = await http.get(f"{SEASON}/leaderboard/{read}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.fixture(autouse=True)
def _looks_are_finished(monkeypatch):
    look_for_ever(monkeypatch)


@pytest.fixture
def for_ever(monkeypatch):
    wait_for_ever(monkeypatch)


@pytest.fixture
async def visibility(pool):
    """One with its own task, on the test's connections."""
    visibility = Visibility(pool, most=1000)
    task = asyncio.create_task(visibility.run())
    yield visibility
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.usefixtures("for_ever")
async def test_reads_say_that_a_score_is_still_to_come_and_wait_until_it_is_there(http, drain, eventually):
    await event_id_of(http, "bob", delta=1)
    await drain()
    event_id = await event_id_of(http, "bob", delta=5)
    asked = [("top", {}), ("rank", {"userId": "bob"}), ("around", {"userId": "bob"}), ("around", {"score": 3})]
    reads = [asyncio.create_task(read(http, word, after=event_id, wait=2000, **query)) for word, query in asked]
    await eventually(STORED)
    assert not any(task.done() for task in reads)
    await drain()
    top, rank, around, around_score = await asyncio.gather(*reads)
    assert [found["pending"] for found in (top, rank, around, around_score)] == [False] * 4
    assert (top["items"][0]["score"], rank["score"], around["items"][0]["score"]) == (6, 6, 6)
    assert around_score["rank"] == 2


async def test_a_read_that_does_not_wait_long_enough_answers_what_there_is(http, drain, monkeypatch):
    await event_id_of(http, delta=1)
    await drain()
    event_id = await event_id_of(http, delta=5)
    for wait in (0, 1, 30):
        found = await read(http, after=event_id, wait=wait)
        assert (found["pending"], found["items"][0]["score"]) == (True, 1)
        assert (await read(http, "rank", after=event_id, wait=wait, userId="ann"))["pending"] is True
    response = await http.get(f"{SEASON}/leaderboard/rank", params={"after": event_id, "wait": 0, "userId": "bob"})
    assert (response.status_code, response.json()["code"]) == (404, "not_on_board")
    await drain()
    wait_for_ever(monkeypatch)
    for query in ({}, {"wait": 0}, {"wait": 2000}):
        found = await read(http, after=event_id, **query)
        assert (found["pending"], found["items"][0]["score"]) == (False, 6)
    assert "pending" not in await read(http)


async def test_what_is_asked_for_wrongly(http, drain):
    event_id = await event_id_of(http, delta=1)
    await drain()
    wrong = [
        ({"wait": 5}, 400, "invalid_wait"),
        ({"after": event_id, "wait": 2001}, 400, "invalid_wait"),
        ({"after": event_id, "wait": "soon"}, 400, "invalid_wait"),
        ({"after": "k1"}, 400, "invalid_event_id"),
        ({"after": ""}, 400, "invalid_event_id"),
        ({"after": 2**63}, 400, "invalid_event_id"),
        ({"after": 2**63 - 1}, 404, "event_not_found"),
        ({"after": 999, "wait": 0}, 404, "event_not_found"),
    ]
    for word in ("top", "rank", "around"):
        for query, status, code in wrong:
            response = await http.get(f"{SEASON}/leaderboard/{word}", params={"userId": "ann", **query})
            assert (response.status_code, response.json()["code"]) == (status, code), query
    await http.post("/v1/seasons/other/scores", json={"userId": "ann", "delta": 1})
    await drain()
    response = await http.get("/v1/seasons/other/leaderboard/top", params={"after": event_id})
    assert (response.status_code, response.json()["code"]) == (404, "event_not_found")
    for wait in ("2001", "-1", "soon"):
        response = await send(http, delta=1, wait=wait)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_wait")
    assert await drain() == 0


@pytest.mark.usefixtures("for_ever")
async def test_a_score_waits_until_it_is_on_the_board(http, drain, eventually):
    for user_id, delta in (("ann", 5), ("bob", 9)):
        await event_id_of(http, user_id, delta=delta)
    await drain()
    told = []
    for user_id in ("ann", "new"):
        task = asyncio.create_task(send(http, user_id, wait=1, delta=7))
        await eventually(STORED)
        assert not task.done()
        await drain()
        response = await task
        assert response.status_code == 200
        body = response.json()
        assert body.pop("eventId").isdecimal()
        told.append(body)
    common = {"seasonId": "race", "queued": False}
    assert told == [
        {**common, "userId": "ann", "score": 12, "rank": 1, "previousRank": 2},
        {**common, "userId": "new", "score": 7, "rank": 3, "previousRank": None},
    ]


async def test_a_score_that_is_not_there_in_time_is_queued_as_ever(http, drain, monkeypatch):
    response = await send(http, wait=1, delta=1)
    event_id = response.json()["eventId"]
    assert response.status_code == 202
    told = {"seasonId": "race", "userId": "ann", "eventId": event_id, "queued": True}
    assert response.json() == {**told, "pending": True}
    keyed = partial(send, http, key="k", delta=2)
    first = await keyed(wait=1)
    assert (first.status_code, first.json()["pending"]) == (202, True)
    for wait in (None, 0):
        response = await keyed(wait=wait)
        assert response.json() == {**told, "eventId": first.json()["eventId"]}
    await drain()
    wait_for_ever(monkeypatch)
    again = await keyed(wait=2000)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert (again.json()["eventId"], again.json()["score"]) == (first.json()["eventId"], 3)


@pytest.mark.usefixtures("for_ever")
async def test_a_failed_score_is_not_waited_for(http, drain, eventually):
    await event_id_of(http, delta=MAX_SCORE)
    await drain()
    task = asyncio.create_task(send(http, wait=1, delta=1))
    await eventually(STORED)
    await drain()
    response = await task
    assert (response.status_code, response.json()["pending"]) == (202, True)
    found = await read(http, after=response.json()["eventId"])
    assert (found["pending"], found["items"][0]["score"]) == (True, MAX_SCORE)


@pytest.mark.usefixtures("for_ever")
async def test_a_reset_meanwhile_leaves_nothing_to_wait_for(http, drain, eventually):
    await event_id_of(http, delta=1)
    await drain()
    sent = asyncio.create_task(send(http, wait=1, delta=1))
    await eventually(STORED)
    assert (await http.delete(SEASON)).status_code == 200
    await drain()
    response = await sent
    body = response.json()
    assert (response.status_code, body["score"], body["rank"], body["previousRank"]) == (200, None, None, 1)
    found = await read(http, after=body["eventId"])
    assert (found["pending"], found["items"]) == (False, [])


@pytest.mark.usefixtures("for_ever")
async def test_an_event_that_left_the_outbox_is_done(http, pool, drain):
    event_id = await event_id_of(http, delta=1)
    await drain()
    assert (await http.delete(SEASON)).status_code == 200
    async with pool.connection() as conn:
        await conn.execute("delete from outbox")
        noted = await conn.execute(
            "insert into moderations (id, season_id, action, user_id, actor, reason)"
            " values (nextval('score_events_id_seq'), 'race', 'hide', 'ann', 'k', 'cheats') returning id"
        )
        (moderation,) = await noted.fetchone()
    assert (await read(http, after=event_id))["pending"] is False
    assert (await read(http, after=moderation))["pending"] is False


@pytest.mark.usefixtures("for_ever")
async def test_another_process_that_keeps_an_old_answer_does_not_give_it(settings, drain, monkeypatch):
    """Its messages are lost, and what it keeps does not age."""
    monkeypatch.setattr(TopCache, "drop", lambda *_: None)
    monkeypatch.setattr("api.top_cache._MAX_AGE_SECONDS", NEVER)
    async with contextlib.AsyncExitStack() as stack:
        apps = [create_app(settings) for _ in range(2)]
        urls = [await stack.enter_async_context(serving(app)) for app in apps]
        writer, reader = [await stack.enter_async_context(client_of(url)) for url in urls]
        await event_id_of(writer, delta=1)
        await drain()
        while not apps[1]._top_cache._kept:  # nothing is, before its subscription begins
            await read(reader)
        for score in (2, 3):
            event_id = await event_id_of(writer, delta=1)
            reading = asyncio.create_task(read(reader, after=event_id))
            await drain()
            found = await reading
            assert (found["pending"], found["items"][0]["score"]) == (False, score)
            assert (await read(reader))["items"][0]["score"] == 1


@pytest.mark.usefixtures("redis", "for_ever")
async def test_while_postgres_is_away_reads_answer_and_what_is_committed_is_queued(own_postgres, servers):
    settings = make_settings(own_postgres.dsn(), servers.redis_url)
    async with (
        create_pool(worker_connection(settings), max_size=2, patience_seconds=20) as pool,
        serving(create_app(settings)) as base_url,
        client_of(base_url) as http,
    ):
        event_id = await event_id_of(http, delta=1)
        sent = asyncio.create_task(send(http, "bob", wait=1, delta=1))
        async with pool.connection() as conn:
            while (await (await conn.execute("select count(*) from outbox")).fetchone())[0] < 2:
                await asyncio.sleep(0)
        reading = asyncio.create_task(read(http, after=event_id))
        own_postgres.running.send_signal(signal.SIGKILL)
        await own_postgres.running.wait()
        response, found = await asyncio.gather(sent, reading)
        assert (response.status_code, response.json()["pending"]) == (202, True)
        assert (found["pending"], found["items"]) == (True, [])


async def test_without_redis_a_score_is_stored_and_queued(dsn, own_valkey, pool):
    settings = make_settings(dsn, own_valkey.url())
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        own_valkey.running.send_signal(signal.SIGKILL)
        await own_valkey.running.wait()
        response = await send(http, wait=2000, delta=1)
    assert (response.status_code, response.json()["pending"]) == (202, True)
    async with pool.connection() as conn:
        assert await (await conn.execute("select count(*) from outbox")).fetchone() == (1,)


@pytest.mark.usefixtures("for_ever")
async def test_when_the_process_stops_who_waits_is_let_go(settings, eventually):
    async with client_of("") as http:
        async with serving(create_app(settings)) as base_url:
            http.base_url = base_url
            sent = asyncio.create_task(send(http, wait=1, delta=1))
            await eventually(STORED)
        response = await sent
    assert (response.status_code, response.json()["pending"]) == (202, True)


async def test_one_statement_asks_for_all_who_wait_and_none_where_nobody_does(visibility, pool, drain):
    scores = [Score("s", f"u{number}", 1) for number in range(500)]
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        event_ids = await ledger.append(conn, scores)
    assert visibility.looks == 0
    waiting = [visibility.wait("s", event_id, NEVER) for event_id in event_ids for _ in range(2)]
    assert await visibility.wait("s", event_ids[0], NEVER) == "pending"  # no room
    while not visibility.looks:
        await asyncio.sleep(0)
    await drain()
    before = visibility.looks
    visibility.changed(["other", "s"])
    assert set(await asyncio.gather(*waiting)) == {"done"}
    assert visibility.looks <= before + 2  # one may have been under way
    assert len(visibility) == 0
    looks = visibility.looks
    assert await visibility.wait("s", event_ids[0], 0) == "done"
    assert visibility.looks == looks + 1
    visibility.changed(["s"])
    visibility._due.set()
    while visibility._due.is_set():
        await asyncio.sleep(0)
    assert visibility.looks == looks + 1


async def test_who_asks_while_a_look_is_under_way_is_not_told_what_it_missed(visibility, pool, monkeypatch):
    """An event that is committed meanwhile, and that somebody else has asked for too early."""
    statuses, asked, told = events.statuses, asyncio.Event(), asyncio.Event()

    async def held(conn, awaited):
        found = await statuses(conn, awaited)
        asked.set()
        await told.wait()
        return found

    monkeypatch.setattr(events, "statuses", held)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        early = visibility.wait("s", 1, NEVER)
        await asked.wait()
        assert await ledger.append(conn, [Score("s", "ann", 1)]) == [1]
        late = visibility.wait("s", 1, NEVER)
        monkeypatch.setattr(events, "known", nothing_is_known)
        told.set()
        assert await early == "unknown"
        assert not late.done()
        await conn.execute("update outbox set status = 'done'")
        assert await late == "done"


async def test_ids_that_nobody_has_delay_nobody(visibility, pool, monkeypatch):
    """Those of the future are not looked for; the others so many at a time, behind what others are told."""
    held, going, sizes, known = asyncio.Event(), asyncio.Event(), [], events.known

    async def counted(conn, awaited):
        sizes.append(len(awaited))
        going.set()
        await held.wait()
        return await known(conn, awaited)

    monkeypatch.setattr(events, "known", counted)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        (event_id,) = await ledger.append(conn, [Score("s", "ann", 1)])
        await conn.execute("select setval('score_events_id_seq', 1000)")
        future = [visibility.wait("s", 1001 + number, NEVER) for number in range(300)]
        assert set(await asyncio.gather(*future)) == {"unknown"}
        assert sizes == []
        await conn.execute("update outbox set status = 'done'")
        gone = [visibility.wait("s", 500 + number, NEVER) for number in range(250)]
        late = visibility.wait("s", 900, 0)
        done = visibility.wait("s", event_id, NEVER)
        await going.wait()
        assert done.done()
        assert done.result() == "done"
        held.set()
        assert set(await asyncio.gather(*gone, late)) == {"unknown"}
        assert sizes == [100, 100, 51]


async def nothing_is_known(_conn, _awaited):
    return set()


async def test_who_leaves_or_has_waited_long_enough_makes_room(visibility, pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        (event_id,) = await ledger.append(conn, [Score("s", "ann", 1)])
    gone = visibility.wait("s", event_id, NEVER)
    gone.cancel()
    assert await visibility.wait("s", event_id, 0.01) == "pending"
    assert await visibility.wait("s", event_id, 0) == "pending"
    assert await visibility.wait("other", event_id, NEVER) == "unknown"
    assert (len(visibility), dict(visibility._waiting), visibility._once) == (0, {}, set())
    assert visibility._joined == set()


@pytest.mark.usefixtures("for_ever")
async def test_what_operators_do_is_waited_for_too_and_who_is_hidden_has_no_rank(http, drain, eventually):
    why = {"reason": "used a speed hack"}
    first = await event_id_of(http, delta=5)
    await event_id_of(http, delta=2)
    await drain()

    async def waited_for(asked):
        assert asked.status_code == 202, asked.text
        event_id = asked.json()["eventId"]
        assert (await http.get(f"{SEASON}/events/{event_id}")).json()["state"] == "pending"
        reading = asyncio.create_task(read(http, after=event_id))
        await drain()
        found = await reading
        assert found["pending"] is False
        told = (await http.get(f"{SEASON}/events/{event_id}")).json()
        assert told["state"] == "done"
        return [item["score"] for item in found["items"]], told

    async def effects():
        items = (await http.get(f"{SEASON}/users/ann/events")).json()["items"]
        return [(item["state"], item["effect"]) for item in items]

    scores, told = await waited_for(await http.post(f"{SEASON}/events/{first}/void", json=why))
    assert (scores, told["type"], told["target"], told["userId"]) == ([2], "void", first, "ann")
    assert (await read(http, after=first))["pending"] is False
    assert await effects() == [("done", "counted"), ("voided", "voided")]
    scores, told = await waited_for(await http.post(f"{SEASON}/users/ann/hide", json=why))
    assert (scores, told["type"]) == ([], "hide")
    sent = asyncio.create_task(send(http, wait=1, delta=1))
    await eventually(STORED)
    await drain()
    body = (await sent).json()
    assert (body["queued"], body["score"], body["rank"], body["previousRank"]) == (False, None, None, None)
    assert (await effects())[:2] == [("done", "counted")] * 2
    scores, told = await waited_for(await http.delete(f"{SEASON}/users/ann", params=why))
    assert (scores, told["type"], told["userId"]) == ([], "erase", None)
    assert await effects() == []
    response = await http.get(f"{SEASON}/leaderboard/top", params={"after": first})
    assert (response.status_code, response.json()["code"]) == (404, "event_not_found")
