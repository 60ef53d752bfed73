"""The API when a server behind it is away, and when more comes in than it can take."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import psycopg
import pytest
from conftest import client_of, frozen, make_settings, serving, unhurried_pool

from api.app import create_app
from cli.embedded import process
from shared import keys, ledger, seasons
from shared.projection import Projection
from shared.scores import Score
from worker.app import worker_connection
from worker.batch import BatchApplier

SEASON = "/v1/seasons/s"
BODY = {"userId": "ann", "delta": 1}


def assert_503(response, code):
    assert response.status_code == 503, response.text
    assert response.json()["code"] == code
    assert int(response.headers["retry-after"]) >= 1


async def test_without_redis_scores_are_taken_and_reads_say_so(dsn, own_valkey):
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=1500)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        await process.stop(own_valkey.program, own_valkey.running, 5)
        assert (await http.post(f"{SEASON}/scores", json=BODY)).status_code == 202
        for question in ("top", "rank?userId=ann", "around?userId=ann"):
            assert_503(await http.get(f"{SEASON}/leaderboard/{question}"), "redis_unavailable")
        assert_503(await http.delete(SEASON), "redis_unavailable")
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"status": "not_ready", "redis": "down", "postgres": "ok", "schema": "ok"}
        own_valkey.running = await own_valkey.start()
        assert (await http.get(f"{SEASON}/leaderboard/top")).status_code == 200
        assert (await http.delete(SEASON)).status_code == 200


async def test_without_postgres_reads_go_on_and_writes_say_so(own_postgres, servers, redis):
    await redis.zadd("lb:{s}", {"ann": 5})
    settings = make_settings(own_postgres.dsn(), servers.redis_url, request_timeout_ms=1500)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        assert (await http.post(f"{SEASON}/scores", json=BODY)).status_code == 202
        own_postgres.running.send_signal(signal.SIGKILL)
        await own_postgres.running.wait()
        assert_503(await http.post(f"{SEASON}/scores", json=BODY), "postgres_unavailable")
        assert_503(await http.delete(SEASON), "postgres_unavailable")
        assert (await http.get(f"{SEASON}/leaderboard/rank?userId=ann")).json()["score"] == 5
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert ready.json() == {"status": "not_ready", "redis": "ok", "postgres": "down", "schema": "unknown"}
        own_postgres.running = await own_postgres.start()
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0)
        assert (await http.post(f"{SEASON}/scores", json=BODY)).status_code == 202


async def test_a_restart_of_postgres_costs_one_answer_not_one_per_connection(own_postgres, servers):
    settings = make_settings(own_postgres.dsn(), servers.redis_url, intake_batch_max=1)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        await asyncio.gather(*(http.post(f"{SEASON}/scores", json=BODY) for _ in range(50)))
        await process.stop(own_postgres.program, own_postgres.running, 5)
        own_postgres.running = await own_postgres.start()
        answers = [(await http.post(f"{SEASON}/scores", json=BODY)).status_code for _ in range(10)]
    assert answers[1:] == [202] * 9


async def test_a_postgres_that_hangs_costs_no_more_than_the_deadline(own_postgres, servers):
    settings = make_settings(own_postgres.dsn(), servers.redis_url, request_timeout_ms=300)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0)
        with frozen(own_postgres):
            assert_503(await http.post(f"{SEASON}/scores", json=BODY), "deadline_exceeded")
            assert_503(await http.delete(SEASON), "deadline_exceeded")
            assert (await http.get("/readyz")).json()["postgres"] == "down"
        while (await http.post(f"{SEASON}/scores", json=BODY)).status_code != 202:
            await asyncio.sleep(0)


async def test_a_worker_gives_up_a_postgres_that_hangs_and_goes_on_when_it_is_back(own_postgres, redis):
    conninfo = worker_connection(make_settings(own_postgres.dsn(), "redis://unused"))
    async with (
        await psycopg.AsyncConnection.connect(own_postgres.dsn(), autocommit=True) as conn,
        unhurried_pool(conninfo, max_size=2, patience_seconds=0.2) as pool,
    ):
        await ledger.create_seasons(conn, ["s"])
        await ledger.append(conn, [Score("s", "ann", 1)])
        await pool.wait(60)
        applier = BatchApplier(pool, Projection(redis), 500, lambda _step: None)
        with frozen(own_postgres), pytest.raises(TimeoutError):
            await applier.apply(floor=0, paused=[])
        pending = "select from outbox where status = 'pending'"
        while await (await conn.execute(pending)).fetchone() is not None:
            with contextlib.suppress(TimeoutError):  # a slow answer costs it this connection too
                await applier.apply(floor=0, paused=[])
    assert await redis.zscore(keys.board("s"), "ann") == 1


async def test_more_than_can_wait_is_refused_at_once_and_what_was_taken_is_stored(own_postgres, servers):
    """The ledger's table is locked: one score is at work, five wait, the others hear it at once."""
    room = {"intake_queue_max": 5, "intake_batch_max": 1, "intake_concurrency": 1}
    settings = make_settings(own_postgres.dsn(), servers.redis_url, request_timeout_ms=60_000, **room)
    async with (
        serving(create_app(settings)) as base_url,
        client_of(base_url) as http,
        await psycopg.AsyncConnection.connect(own_postgres.dsn()) as conn,
    ):
        async with conn.transaction():
            await conn.execute("lock table score_events in share mode")
            sent = [asyncio.create_task(http.post(f"{SEASON}/scores", json=BODY))]
            while await (await conn.execute("select from pg_locks where not granted")).fetchone() is None:
                await asyncio.sleep(0)
            sent += [asyncio.create_task(http.post(f"{SEASON}/scores", json=BODY)) for _ in range(59)]
            refused = set()
            while len(refused) < 54:
                done, _ = await asyncio.wait(set(sent) - refused, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            for score in refused:
                assert_503(score.result(), "overloaded")
        answers = [(await score).status_code for score in sent]
        assert sorted(answers) == [202] * 6 + [503] * 54
        assert await (await conn.execute("select count(*) from score_events")).fetchone() == (6,)


async def test_a_body_that_does_not_arrive_is_given_up(http, monkeypatch):
    monkeypatch.setattr("api.http_protocol.BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {SEASON}/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"userId":')
    answer = await reader.read()  # to the end: the connection is closed, the rest of the body would be no request
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_timeout"' in answer
    writer.close()


async def test_a_body_that_does_not_arrive_is_given_up_behind_another_request_too(http, monkeypatch):
    monkeypatch.setattr("api.http_protocol.BODY_SECONDS", 0.1)
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {SEASON}/scores HTTP/1.1\r\nhost: x\r\nx: {{}}\r\ncontent-length: 26\r\n\r\n"
    body = '{"userId":"ann","delta":1}'
    writer.write((head.format("x" * 5000) + body + head.format("y") + body[:9]).encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"HTTP/1.1 408 " in answer
    assert b'"code":"body_timeout"' in answer
    writer.close()


async def test_a_client_that_leaves_in_the_middle_stores_nothing(http, pool):
    _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {SEASON}/scores HTTP/1.1\r\nhost: x\r\ncontent-length: 26\r\n\r\n"
    writer.write(head.encode() + b'{"userId":"ann","delta":1')
    await writer.drain()
    writer.close()
    assert (await http.get("/healthz")).status_code == 200
    async with pool.connection() as conn:
        assert await (await conn.execute("select count(*) from score_events")).fetchone() == (0,)


async def test_a_new_season_does_not_wait_for_who_holds_another(pool):
    async with pool.connection() as holder, pool.connection() as conn:
        await ledger.create_seasons(conn, ["held"])
        async with holder.transaction():
            await seasons.advance(holder, ["held"])
            await ledger.create_seasons(conn, ["held", "new"])  # its lock timeout is half a second
            await ledger.append(conn, [Score("held", "ann", 1), Score("new", "ann", 1)])


async def test_resets_that_wait_for_a_lock_leave_scores_their_connections(settings, pool):
    settings = make_settings(settings.postgres_dsn, settings.redis_url, db_pool_max=6)
    async with (
        serving(create_app(settings)) as base_url,
        client_of(base_url) as http,
        pool.connection() as holder,
    ):
        assert (await http.post("/v1/seasons/held/scores", json={"userId": "ann", "delta": 1})).status_code == 202
        async with holder.transaction():
            await seasons.lock(holder, ["held"])
            resets = [asyncio.create_task(http.delete("/v1/seasons/held")) for _ in range(20)]
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and application_name like '%-api'"
            async with pool.connection() as conn:
                while await (await conn.execute(waiting)).fetchone() is None:
                    await asyncio.sleep(0)
            for number in range(5):
                body = {"userId": "ann", "delta": 1}
                assert (await http.post(f"/v1/seasons/free{number}/scores", json=body)).status_code == 202
        assert 200 in {(await reset).status_code for reset in resets}
