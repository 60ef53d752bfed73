"""POST …/scores/batch over real HTTP: a result for each item, one transaction, bounds, and trouble behind it."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack

import pytest
from conftest import client_of, frozen, make_settings, serving, unhurried_app

from api import ledger_writes, score_batches
from api.app import create_app
from api.ledger_writes import store
from shared import ledger
from shared.errors import InvalidRequestError, PostgresUnavailableError
from shared.scores import Score

BATCH = "/v1/seasons/s/scores/batch"
ANN = {"userId": "ann", "delta": 5}
QUEUED = {"status": "queued"}
REPLAYED = {"status": "replayed"}
NDJSON = {"content-type": "application/x-ndjson; charset=utf-8"}


async def send(http, *items, path=BATCH):
    """The results of a batch that was taken."""
    response = await http.post(path, json=items)
    assert response.status_code == 202, response.text
    return results_in(response)


def results_in(response):
    """Without the eventIds, which what is stored has and nothing else."""
    body = response.json()
    for result in body["results"]:
        assert ("eventId" in result) == (result["status"] != "refused")
        result.pop("eventId", None)
    statuses = [result["status"] for result in body["results"]]
    assert {name: body[name] for name in ("queued", "replayed", "refused")} == {
        name: statuses.count(name) for name in ("queued", "replayed", "refused")
    }
    return body["results"]


def codes(results):
    return [result.get("code", result["status"]) for result in results]


def keyed(key, **body):
    return {**ANN, "eventId": key, **body}


async def stored(pool):
    async with pool.connection() as conn:
        rows = await (await conn.execute("select user_id, delta from score_events order by 1, 2")).fetchall()
        assert await (await conn.execute("select user_id, delta from outbox order by 1, 2")).fetchall() == rows
        return rows


async def test_a_batch_is_queued_item_by_item_and_then_on_the_board(http, drain, truth):
    response = await http.post(BATCH, json=[ANN, {"userId": "bob", "delta": -2}, ANN])
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "seasonId": "s",
        "queued": 3,
        "replayed": 0,
        "refused": 0,
        "results": [{**QUEUED, "eventId": event_id} for event_id in "456"],  # three were for a season not yet there
    }
    assert await drain() == 3
    assert await truth() == {"s": {"ann": 10, "bob": -2}}


async def test_the_scores_of_a_batch_share_one_transaction(http, pool):
    await send(http, *({"userId": f"u{number:03}", "delta": 1} for number in range(300)))
    async with pool.connection() as conn:
        found = await (await conn.execute("select count(distinct xmin::text) from score_events")).fetchone()
    assert found == (1,)
    assert await stored(pool) == [(f"u{number:03}", 1) for number in range(300)]


@pytest.mark.parametrize("fields", [{}, {"eventId": "k"}])
async def test_events_are_numbered_in_the_order_of_the_items(http, pool, fields):
    """So that of a total out of bounds it is the later event which is set aside."""
    items = [{"userId": f"u{number}", "delta": 1} for number in range(7)]
    await send(http, *items[:-1], {**items[-1], **fields})
    async with pool.connection() as conn:
        found = await (await conn.execute("select user_id from outbox order by id")).fetchall()
    assert found == [(item["userId"],) for item in items]


async def test_a_batch_sent_again_is_replayed_item_by_item(http, pool, drain, truth):
    items = [keyed("k1"), keyed("k2"), keyed("k1"), keyed('"k2"'), ANN]
    assert await send(http, *items) == [QUEUED, QUEUED, REPLAYED, REPLAYED, QUEUED]
    assert await send(http, *items[:4]) == [REPLAYED] * 4
    assert await send(http, keyed("k3"), keyed("k1")) == [QUEUED, REPLAYED]
    assert await stored(pool) == [("ann", 5)] * 4
    await drain()
    assert await truth() == {"s": {"ann": 20}}


async def test_batches_and_single_scores_share_their_keys(http, pool):
    await http.post("/v1/seasons/s/scores", json=keyed("k1"))
    assert await send(http, keyed("k1"), keyed("k2")) == [REPLAYED, QUEUED]
    again = await http.post("/v1/seasons/s/scores", json=ANN, headers={"Idempotency-Key": "k2"})
    assert again.headers["idempotent-replayed"] == "true"
    assert await stored(pool) == [("ann", 5)] * 2


async def test_refused_items_say_why_and_the_others_are_stored(http, pool):
    await send(http, keyed("k"))
    results = await send(
        http, ANN, {"userId": "", "delta": 1}, keyed("k", delta=6), {"userId": "ann"}, keyed("new"), 7, keyed("k")
    )
    assert codes(results) == [
        *("queued", "invalid_user_id", "idempotency_key_reused", "invalid_body", "queued", "invalid_body"),
        "replayed",
    ]
    assert [result["status"] for result in results].count("refused") == 4
    assert all(result["error"] for result in results if result["status"] == "refused")
    assert await stored(pool) == [("ann", 5)] * 3


async def test_a_batch_of_which_all_is_refused_is_an_error(http, pool):
    await send(http, keyed("k"))
    response = await http.post(BATCH, json=[{"userId": "ann", "delta": 0}, keyed("k", userId="bob")])
    assert response.status_code == 400
    body = response.json()
    assert body["code"] == "batch_refused"
    assert body["error"]
    assert body["requestId"] == response.headers["x-request-id"]
    assert codes(body["results"]) == ["invalid_delta", "idempotency_key_reused"]
    assert await stored(pool) == [("ann", 5)]


async def test_a_batch_of_which_all_was_stored_before_is_taken(http):
    await send(http, keyed("k"))
    assert await send(http, keyed("k"), {"userId": "", "delta": 1})


@pytest.mark.parametrize(
    "kind", ["application/x-ndjson", "application/ndjson", "application/jsonl", NDJSON["content-type"]]
)
async def test_lines_of_json(http, pool, kind):
    lines = b'{"userId":"ann","delta":1}\r\n\r\n{"userId":"bob","delta":2}\ngarbage\n\n{"userId":"cid","delta":3}'
    response = await http.post(BATCH, content=lines, headers={"content-type": kind})
    assert response.status_code == 202
    assert codes(results_in(response)) == ["queued", "queued", "invalid_json", "queued"]
    assert await stored(pool) == [("ann", 1), ("bob", 2), ("cid", 3)]


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"", {}, "invalid_json"),
        (b"[", {}, "invalid_json"),
        (b"[]", {}, "invalid_body"),
        (json.dumps(ANN).encode(), {}, "invalid_body"),
        (json.dumps([ANN] * 5001).encode(), {}, "invalid_body"),
        (b'{"userId":"ann","delta":1}\n' * 5001, NDJSON, "invalid_body"),
        (b"\r\n\n", NDJSON, "invalid_body"),
        (json.dumps([ANN]).encode(), {"Idempotency-Key": "k"}, "invalid_idempotency_key"),
    ],
)
async def test_what_is_no_batch_is_refused_and_stores_nothing(http, pool, body, headers, code):
    response = await http.post(BATCH, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert "results" not in response.json()
    assert await stored(pool) == []


async def test_5000_scores_are_a_batch(http, drain, truth):
    items = [{"userId": f"u{number % 100}", "delta": 1, "eventId": f"k{number}"} for number in range(5000)]
    assert await send(http, *items) == [QUEUED] * 5000
    assert await send(http, *items) == [REPLAYED] * 5000
    assert await drain() == 5000
    assert await truth() == {"s": {f"u{number}": 50 for number in range(100)}}


async def test_a_body_beyond_one_mebibyte_is_to_be_split(http, pool):
    items = [{"userId": "u" * 128, "delta": 1, "eventId": f"{number:0128}"} for number in range(5000)]
    response = await http.post(BATCH, json=items)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "two batches" in response.json()["error"]
    assert await stored(pool) == []
    assert await send(http, *items[:3000]) == [QUEUED] * 3000


@pytest.mark.parametrize("season_id", ["", "a b", "a" * 65, "a%2Fb"])
async def test_a_bad_season_id_is_refused(http, season_id):
    response = await http.post(f"/v1/seasons/{season_id}/scores/batch", json=[ANN])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_season_id")


async def test_the_same_batch_at_the_same_time_over_two_processes_counts_once(settings, drain, truth):
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            base_url = await stack.enter_async_context(serving(unhurried_app(settings)))
            clients.append(await stack.enter_async_context(client_of(base_url)))
        for round_number in range(5):
            items = [keyed(f"{round_number}-{number}", userId=f"u{number}") for number in range(400)]
            answers = await asyncio.gather(
                *(send(client, *order) for client in clients for order in (items, items[::-1]))
            )
            statuses = [result["status"] for results in answers for result in results]
            assert (statuses.count("queued"), statuses.count("replayed")) == (400, 1200)
    await drain()
    assert await truth() == {"s": {f"u{number}": 25 for number in range(400)}}


@pytest.fixture
async def forbid(pool, monkeypatch):
    """Makes the database refuse what no rule of ours does; it is searched for as long as that takes."""
    monkeypatch.setattr(ledger_writes, "_SEARCH_SECONDS", 3600)

    async def forbid_now(condition):
        async with pool.connection() as conn:
            await conn.execute(f"alter table score_events add constraint forbidden check (not ({condition}))")

    return forbid_now


async def test_rows_that_the_database_refuses_are_found_by_halving(http, pool, forbid, monkeypatch, drain, truth):
    await forbid("user_id in ('u77', 'u2500')")
    statements = 0
    append = ledger.append

    async def counted(conn, scores):
        nonlocal statements
        statements += 1
        return await append(conn, scores)

    monkeypatch.setattr(ledger, "append", counted)
    items = [keyed(f"k{number}", userId=f"u{number}") for number in range(4096)]
    results = await send(http, *items, path="/v1/seasons/new/scores/batch")
    refused = {place: result["code"] for place, result in enumerate(results) if result["status"] == "refused"}
    assert refused == {77: "score_refused", 2500: "score_refused"}
    assert statements < 60
    async with pool.connection() as conn:
        found = await (await conn.execute("select count(*), count(distinct xmin::text) from score_events")).fetchone()
        left = await (await conn.execute("select count(*) from idempotency_keys")).fetchone()
    assert found == (4094, 1)
    assert left == (4094,)
    await drain()
    assert len((await truth())["new"]) == 4094


async def test_a_batch_of_which_the_database_refuses_all(http, pool, forbid):
    await forbid("true")
    response = await http.post(BATCH, json=[ANN] * 5)
    assert (response.status_code, response.json()["code"]) == (400, "batch_refused")
    assert codes(response.json()["results"]) == ["score_refused"] * 5
    assert await stored(pool) == []


async def test_single_scores_that_share_a_commit_with_a_refused_one_are_stored(pool, forbid):
    await forbid("user_id = 'u3'")
    results = await store(pool, [Score("s", f"u{number}", 1) for number in range(8)])
    assert [number for number, result in enumerate(results) if not isinstance(result, int)] == [3]


async def test_a_search_that_takes_too_long_is_given_up_and_stores_nothing(pool, forbid, monkeypatch):
    await forbid("user_id = 'u3'")
    monkeypatch.setattr(ledger_writes, "_SEARCH_SECONDS", 0)
    with pytest.raises(PostgresUnavailableError):
        await store(pool, [Score("s", f"u{number}", 1) for number in range(8)])
    assert await stored(pool) == []


async def test_what_is_refused_together_but_not_alone_is_trouble(pool):
    async with pool.connection() as conn:
        await conn.execute("""
            create function only_one() returns trigger language plpgsql as $$
            begin
              if (select count(*) from added) > 1 then raise unique_violation; end if;
              return null;
            end $$""")
        await conn.execute(
            "create trigger only_one after insert on score_events "
            "referencing new table as added for each statement execute function only_one()"
        )
    with pytest.raises(PostgresUnavailableError):
        await store(pool, [Score("s", "ann", 1), Score("s", "bob", 1)])
    assert await stored(pool) == []


async def test_without_postgres_a_batch_is_503_and_nothing_is_half_stored(own_postgres, servers):
    settings = make_settings(own_postgres.dsn(), servers.redis_url, request_timeout_ms=1500)
    items = [keyed(f"k{number}") for number in range(1000)]
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        assert await send(http, *items[:1]) == [QUEUED]
        own_postgres.running.send_signal(signal.SIGKILL)
        await own_postgres.running.wait()
        response = await http.post(BATCH, json=items)
        assert (response.status_code, response.json()["code"]) == (503, "postgres_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        own_postgres.running = await own_postgres.start()
        while (response := await http.post(BATCH, json=items)).status_code != 202:
            assert response.status_code == 503
        assert codes(results_in(response)) == ["replayed"] + ["queued"] * 999


async def test_a_postgres_that_hangs_costs_no_more_than_the_deadline(own_postgres, servers):
    settings = make_settings(own_postgres.dsn(), servers.redis_url, request_timeout_ms=300)
    items = [keyed(f"k{number}") for number in range(100)]
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0)
        with frozen(own_postgres):
            response = await http.post(BATCH, json=items)
            assert (response.status_code, response.json()["code"]) == (503, "deadline_exceeded")
            assert int(response.headers["retry-after"]) >= 1
        for _ in range(2):
            while (response := await http.post(BATCH, json=items)).status_code != 202:
                assert response.status_code == 503
        assert codes(results_in(response)) == ["replayed"] * 100


async def test_a_batch_of_which_some_cant_be_told_is_503(http, pool, monkeypatch):
    await send(http, keyed("k"))
    # The connection breaks between the commit and the look at the keys that were known.
    monkeypatch.setattr(ledger, "_KNOWN", "select pg_terminate_backend(pg_backend_pid()), %s::text, %s::text")
    response = await http.post(BATCH, json=[keyed("k"), keyed("new")])
    assert (response.status_code, response.json()["code"]) == (503, "postgres_unavailable")
    monkeypatch.undo()
    assert await send(http, keyed("k"), keyed("new")) == [REPLAYED, REPLAYED]
    assert len(await stored(pool)) == 2


@pytest.mark.parametrize("in_lines", [True, False])
def test_a_refusal_holds_on_to_no_body(in_lines):
    """Frames stay as long as the traceback does: until the next collection of garbage where a future carries it."""
    batch = score_batches._Batch("s", bytearray(b" " * 1000), in_lines)
    with pytest.raises(InvalidRequestError) as caught:
        batch.read()
    assert caught.value.__context__ is None
    held = [value for entry in caught.traceback for value in entry.frame.f_locals.values()]
    assert not any(isinstance(value, bytearray | bytes) for value in held)
    assert batch.body == b""


async def test_batches_take_turns_and_more_than_can_wait_is_refused_unstored(settings, pool, monkeypatch):
    """The ledger's table is locked: two batches hold their turns, two wait, the others hear it at once."""
    settings = settings.model_copy(update={"request_timeout_ms": 60_000})
    body = json.dumps([ANN] * 50).encode()
    monkeypatch.setattr(score_batches, "_BODIES_BYTES", 4 * len(body))
    at_work, most_at_work = 0, 0

    async def counted(*given):
        nonlocal at_work, most_at_work
        at_work += 1
        most_at_work = max(at_work, most_at_work)
        try:
            return await store(*given)
        finally:
            at_work -= 1

    monkeypatch.setattr(ledger_writes, "store", counted)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http, pool.connection() as holder:
        async with holder.transaction():
            await holder.execute("lock table score_events in share mode")
            batches = [asyncio.create_task(http.post(BATCH, content=body)) for _ in range(12)]
            refused = set()
            while len(refused) < 8:
                done, _ = await asyncio.wait(set(batches) - refused, return_when=asyncio.FIRST_COMPLETED)
                refused |= done
            for batch in refused:
                response = batch.result()
                assert (response.status_code, response.json()["code"]) == (503, "overloaded")
        answers = [(await batch).status_code for batch in batches]
    assert sorted(answers) == [202] * 4 + [503] * 8
    assert most_at_work == 2
    assert len(await stored(pool)) == 200


async def test_single_scores_are_taken_while_batches_wait(settings, pool):
    settings = make_settings(settings.postgres_dsn, settings.redis_url, db_pool_max=2)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http, pool.connection() as holder:
        await http.post("/v1/seasons/s/scores", json=keyed("k"))
        async with holder.transaction():
            # Who inserts the same key waits for this transaction.
            held = (
                "insert into idempotency_keys (season_id, key, event_id, user_id, delta) values ('s', 'h', 0, 'a', 1)"
            )
            await holder.execute(held)
            batches = [asyncio.create_task(http.post(BATCH, json=[keyed("h")])) for _ in range(6)]
            async with pool.connection() as conn:
                waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
                while await (await conn.execute(waiting)).fetchone() is None:
                    await asyncio.sleep(0)
            for number in range(5):
                response = await http.post("/v1/seasons/s/scores", json={"userId": f"u{number}", "delta": 1})
                assert response.status_code == 202
        await asyncio.gather(*batches)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_slow_sender_holds_no_turn_and_gives_back_what_it_held(http, pool, monkeypatch, announced):
    body = json.dumps([ANN] * 50).encode()

    async def send_all(times=1):
        async def chunks():
            for _ in range(times):
                yield body

        return (await http.post(BATCH, content=body * times if announced else chunks())).status_code

    monkeypatch.setattr(score_batches, "_BODIES_BYTES", 2 * len(body))
    head = f"POST {BATCH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    assert await send_all(times=3) == 503  # there is no room for it even alone
    writers = []
    for _ in range(4):
        _, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(head + body[:100])
        await writer.drain()
        writers.append(writer)
    assert await send(http, ANN) == [QUEUED]
    for writer in writers:
        writer.write(body[100:-1])  # one byte is missing
        await writer.drain()
    while await send_all() != 503:
        await asyncio.sleep(0)
    if announced:  # then nobody waits for what there is no room for
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(head)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 503 ")
        writers.append(writer)
    for writer in writers:
        writer.close()
    while await send_all() != 202:
        await asyncio.sleep(0)
    assert len(await stored(pool)) % 50 == 1
