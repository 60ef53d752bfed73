"""A score with an idempotency key counts once, whoever sends it again, wherever, and however often at a time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import psycopg
import pytest
from conftest import client_of, serving, unhurried_app

from api.ledger_writes import store
from shared import ledger
from shared.scores import MAX_SCORE, Score
from worker.upkeep import Purge

SCORES = "/v1/seasons/s/scores"
ANN = {"userId": "ann", "delta": 5}


def post(http, key=None, path=SCORES, **body):
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post(path, json={**ANN, **body}, headers=headers)


def replayed(response):
    assert response.status_code == 202, response.text
    told = response.json()
    assert told.pop("eventId").isdecimal()
    assert told == {"seasonId": "s", "userId": "ann", "queued": True}
    return response.headers.get("idempotent-replayed") == "true"


async def rows(pool, table):
    async with pool.connection() as conn:
        return await (await conn.execute(f"select season_id, user_id, delta from {table} order by 1, 2, 3")).fetchall()


async def test_the_same_key_and_score_again_gets_the_first_answer_and_counts_once(http, pool, drain, truth):
    assert not replayed(await post(http, "k1"))
    assert replayed(await post(http, "k1"))
    assert not replayed(await post(http, "k2"))
    assert await drain() == 2
    assert replayed(await post(http, "k1"))
    assert await drain() == 0
    assert await truth() == {"s": {"ann": 10}}
    assert await rows(pool, "score_events") == [("s", "ann", 5)] * 2


async def test_header_and_event_id_are_the_same_key(http, pool):
    assert not replayed(await post(http, "k"))
    assert replayed(await post(http, '"k"'))
    assert replayed(await post(http, eventId="k"))
    assert replayed(await post(http, "k", eventId="k"))
    assert len(await rows(pool, "outbox")) == 1
    response = await post(http, "k", eventId="other")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


@pytest.mark.parametrize("other", [{"userId": "bob"}, {"delta": 6}])
async def test_the_same_key_with_another_score_is_refused(http, pool, other):
    assert not replayed(await post(http, "k"))
    response = await post(http, "k", **other)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert await rows(pool, "score_events") == await rows(pool, "outbox") == [("s", "ann", 5)]
    assert replayed(await post(http, "k"))


async def test_two_keys_in_two_headers_are_refused(http, pool):
    response = await http.post(SCORES, json=ANN, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
    assert await rows(pool, "outbox") == []


async def test_a_key_belongs_to_its_season(http, pool):
    assert not replayed(await post(http, "k"))
    other = await post(http, "k", path="/v1/seasons/other/scores")
    assert other.status_code == 202
    assert "idempotent-replayed" not in other.headers
    assert len(await rows(pool, "score_events")) == 2


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 129, "caf\u00e9", "tab\there"])
async def test_what_is_no_key_is_refused(http, pool, key):
    response = await post(http, key.encode("latin-1"))
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
    response = await post(http, eventId=key)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
    assert await rows(pool, "outbox") == []


async def test_many_at_once_over_two_processes_store_one(settings, pool):
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            base_url = await stack.enter_async_context(serving(unhurried_app(settings)))
            clients.append(await stack.enter_async_context(client_of(base_url)))
        for round_number in range(10):
            answers = await asyncio.gather(*(post(clients[n % 2], f"k{round_number}") for n in range(40)))
            assert [replayed(answer) for answer in answers].count(False) == 1
    assert await rows(pool, "outbox") == [("s", "ann", 5)] * 10


async def test_a_restart_forgets_no_key(settings, pool):
    for _ in range(2):
        async with serving(unhurried_app(settings)) as base_url, client_of(base_url) as http:
            await post(http, "k")
    assert await rows(pool, "outbox") == [("s", "ann", 5)]


async def test_a_reset_does_not_make_a_key_count_again(http, drain, truth):
    await post(http, "k")
    assert (await http.delete("/v1/seasons/s")).status_code == 200
    assert replayed(await post(http, "k"))
    await drain()
    assert await truth() == {}


async def test_in_one_batch_the_first_of_equal_keys_wins_and_scores_without_a_key_all_count(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        scores = [
            Score("s", "ann", 1),
            Score("s", "ann", 1, "k"),
            Score("s", "ann", 2, "k"),
            Score("s", "ann", 1, "k"),
            Score("s", "ann", 1),
        ]
        outcomes = await ledger.append(conn, scores)
    assert outcomes == [1, 2, "reused", ledger.Replayed(2), 5]
    async with pool.connection() as conn:
        found = await (await conn.execute("select id from outbox order by id")).fetchall()
    assert found == [(1,), (2,), (5,)]
    assert await rows(pool, "score_events") == [("s", "ann", 1)] * 3


async def test_a_score_that_is_refused_leaves_no_key_behind(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        with pytest.raises(psycopg.errors.CheckViolation):
            await ledger.append(conn, [Score("s", "ann", 1, "k1"), Score("s", "ann", MAX_SCORE + 1, "k2")])
        with pytest.raises(ledger.UnknownSeasonError):
            await ledger.append(conn, [Score("s", "ann", 1, "k1"), Score("unknown", "ann", 1, "k2")])
    assert await rows(pool, "idempotency_keys") == await rows(pool, "score_events") == []


async def test_batches_with_the_same_keys_in_other_orders_do_not_deadlock(patient_pool):
    async def append(scores):
        async with patient_pool.connection() as conn:
            return await ledger.append(conn, scores)

    async with patient_pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
    for round_number in range(20):
        scores = [Score("s", "ann", 1, f"{round_number}-{number}") for number in range(300)]
        found = await asyncio.gather(append(scores), append(scores[::-1]), append(scores), append(scores[::-1]))
        stored = {outcome for outcomes in found for outcome in outcomes if isinstance(outcome, int)}
        replayed = [outcome.event_id for outcomes in found for outcome in outcomes if not isinstance(outcome, int)]
        assert len(stored) == 300
        assert sorted(replayed) == sorted([*stored] * 3)


async def test_keys_are_forgotten_after_their_retention_and_their_events_stay(http, pool, projection):
    await post(http, "old")
    await post(http, "new")
    async with pool.connection() as conn:
        await conn.execute("update idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'")
    await Purge(pool, projection, retention_hours=24, key_retention_hours=24).run()
    assert replayed(await post(http, "new"))
    assert not replayed(await post(http, "old"))
    assert len(await rows(pool, "score_events")) == 3


async def test_keys_that_are_purged_while_they_are_compared_are_free_again(pool, monkeypatch):
    scores = [Score("s", "ann", 1, "k1"), Score("s", "bob", 1), Score("s", "cid", 1, "k2")]
    assert all(isinstance(stored, int) for stored in await store(pool, scores))
    # The look at the keys comes after their purge.
    monkeypatch.setattr(ledger, "_KNOWN", f"with gone as (delete from idempotency_keys) {ledger._KNOWN} where false")
    again = await store(pool, scores)
    assert all(isinstance(stored, int) for stored in again)
    monkeypatch.undo()
    assert await store(pool, scores[::2]) == [ledger.Replayed(event_id) for event_id in again[::2]]
    assert len(await rows(pool, "score_events")) == 6


async def test_the_purge_of_keys_walks_the_index_of_their_age(pool):
    async with pool.connection() as conn:
        await conn.execute(
            "insert into idempotency_keys select 's', 'k' || n, n, 'u', 1, now() from generate_series(1, 20000) as n"
        )
        await conn.execute("vacuum analyze idempotency_keys")
        found = await (await conn.execute(f"explain {ledger.PURGE_KEYS}", (24, 2000))).fetchall()
    plan = "\n".join(row[0] for row in found)
    assert "idempotency_keys_created_at_idx" in plan
    assert "Seq Scan" not in plan


async def test_scores_without_a_key_are_stored_whatever_becomes_of_the_look_at_the_keys(pool, monkeypatch):
    """The connection breaks after the commit: only that of the known key can't be told."""
    monkeypatch.setattr(ledger, "_KNOWN", "select pg_terminate_backend(pg_backend_pid()), %s::text, %s::text")
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        await ledger.append(conn, [Score("s", "ann", 1, "k")])
        again = [Score("s", "ann", 1, "k"), Score("s", "bob", 2), Score("s", "cid", 3, "new")]
        assert await ledger.append(conn, again) == ["unknown", 3, 4]
    assert await rows(pool, "score_events") == [("s", "ann", 1), ("s", "bob", 2), ("s", "cid", 3)]
