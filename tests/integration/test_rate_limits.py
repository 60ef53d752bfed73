"""Rate limits per key and per player, counted in Redis. No test waits for a second to pass: the clock is Redis' own,
and what it holds is moved instead."""

from __future__ import annotations

import asyncio

import pytest
from conftest import client_of, make_settings, serving

from api.app import create_app
from cli.embedded import process
from shared import api_keys

PATH = "/v1/seasons/s/scores"


@pytest.fixture(autouse=True)
def _counted_however_long_it_takes(monkeypatch):
    """A Redis that is slow lets everybody pass, and a process that is slow nobody."""
    monkeypatch.setattr("api.app._COUNTING_SECONDS", 60)
    monkeypatch.setattr("api.rate_limits._DEADLINE_SECONDS", 60)


@pytest.fixture
def settings(settings):
    return settings.model_copy(update={"request_timeout_ms": 60_000})


async def moment(redis):
    """Redis' own, in microseconds."""
    seconds, microseconds = await redis.time()
    return seconds * 1_000_000 + microseconds


async def assert_ends(redis, name, within_ms):
    """It is kept for so long at most, or is over already."""
    left_ms = await redis.pttl(name)
    assert left_ms <= within_ms
    assert left_ms != -1  # for ever


@pytest.fixture
async def key(pool):
    async with pool.connection() as conn:
        return await api_keys.create(conn, "test", ["admin"], [])


def score(user_id="ann"):
    return {"userId": user_id, "delta": 1}


async def stored(pool):
    async with pool.connection() as conn:
        return (await (await conn.execute("select count(*) from score_events")).fetchone())[0]


async def test_a_key_has_so_many_requests_a_second(settings, key, redis):
    """Two processes count together; what answers directly, what goes by a task and kept answers alike."""
    limited = settings.model_copy(update={"rate_limit_key_per_second": 5})
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        serving(create_app(limited)) as first_url,
        serving(create_app(limited)) as second_url,
        client_of(first_url) as first,
        client_of(second_url) as second,
    ):
        # A second has long passed between the first and the last where the machine is slow: the debt is set instead.
        name = f"rate:key:{api_keys.id_in(key)}"
        paid_off = await moment(redis) + 3_600_000_000
        await redis.set(name, paid_off)
        paths = ["/v1/seasons/s/leaderboard/top", "/v1/seasons/s", "/v1/seasons/s/leaderboard/rank?userId=ann"]
        for http in (first, second):
            for path in paths:
                response = await http.get(path, headers=headers)
                assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
                # Of what is owed a second's worth may be.
                least = (paid_off - await moment(redis)) / 1_000_000 - 1
                assert least <= int(response.headers["retry-after"]) <= 3600
                assert response.headers["ratelimit-policy"] == '"key";q=5;w=1'
                assert response.headers["ratelimit"].startswith('"key";r=0;t=')
            assert (await http.get(paths[0])).status_code == 200  # nobody's key
        await redis.delete(name)
        left = []
        for http in (first, second):
            response = await http.get(paths[0], headers=headers)
            assert response.status_code == 200
            assert response.headers["ratelimit-policy"] == '"key";q=5;w=1'
            left.append(response.headers["ratelimit"])
        assert left[0] == '"key";r=4;t=1'
        await assert_ends(redis, name, within_ms=1000)


async def test_of_what_comes_at_once_so_much_passes(settings, key, redis):
    limited = settings.model_copy(update={"rate_limit_player_per_minute": 10})
    headers = {"Authorization": f"Bearer {key}"}
    async with serving(create_app(limited)) as url, client_of(url) as http:
        begun = await moment(redis)
        responses = await asyncio.gather(*[http.post(PATH, json=score(), headers=headers) for _ in range(40)])
        seconds = (await moment(redis) - begun) / 1_000_000
        codes = [response.status_code for response in responses]
        assert 10 <= codes.count(202) <= 10 + seconds / 6  # one more for each 6 s that the burst took
        assert codes.count(202) + codes.count(429) == 40
        assert (await http.post(PATH, json=score("bob"), headers=headers)).status_code == 202
        refused = next(response for response in responses if response.status_code == 429)
        assert refused.headers["ratelimit-policy"] == '"player";q=10;w=60'
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        assert "more than 10 scores of this player in a minute" in refused.json()["error"]
        await assert_ends(redis, "rate:player:ann", within_ms=60_000)


async def test_nothing_beyond_the_limit_is_stored(settings, pool):
    limited = settings.model_copy(update={"rate_limit_player_per_minute": 2})
    async with serving(create_app(limited)) as url, client_of(url) as http:
        batch = [score("ann"), score("bob"), score("ann"), {"userId": "cid", "delta": 0}, score("ann"), score("bob")]
        response = await http.post(f"{PATH}/batch", json=batch)
        assert response.status_code == 202
        results = [(result["status"], result.get("code")) for result in response.json()["results"]]
        assert results == [
            ("queued", None),
            ("queued", None),
            ("queued", None),
            ("refused", "invalid_delta"),
            ("refused", "rate_limited"),
            ("queued", None),
        ]
        assert await stored(pool) == 4
        response = await http.post(f"{PATH}/batch", json=[score("ann"), score("bob")])
        assert (response.status_code, response.json()["code"]) == (429, "batch_refused")
        assert response.headers["retry-after"] == "60"
        assert (await http.post(PATH, json=score("ann"))).status_code == 429
        body = {"game_id": 1, "user_id": 5, "score": 1}
        games = [(await http.post("/api/leaderboard/score", json=body)).status_code for _ in range(3)]
        assert games == [200, 200, 429]
        assert await stored(pool) == 6


async def test_without_redis_everybody_passes(dsn, own_valkey):
    settings = make_settings(dsn, own_valkey.url(), rate_limit_player_per_minute=1, admin_key="a" * 24)
    settings = settings.model_copy(update={"rate_limit_key_per_second": 1})
    headers = {"Authorization": "Bearer " + "a" * 24}
    async with serving(create_app(settings)) as url, client_of(url) as http:
        await process.stop(own_valkey.program, own_valkey.running, 5)
        for _ in range(5):
            response = await http.post(PATH, json=score(), headers=headers)
            assert response.status_code == 202
            assert "ratelimit" not in response.headers
        own_valkey.running = await own_valkey.start()


async def test_a_process_with_too_much_to_do_lets_nobody_by(settings, pool, redis, monkeypatch):
    """Else a burst would be the way around the limit."""
    monkeypatch.setattr("api.rate_limits._MAX_WAITING", 1)
    limited = settings.model_copy(update={"rate_limit_player_per_minute": 3})
    async with serving(create_app(limited)) as url, client_of(url) as http:
        batches = [[score("ann")] * 50] * 20
        begun = await moment(redis)
        responses = await asyncio.gather(*[http.post(f"{PATH}/batch", json=batch) for batch in batches])
        codes = {response.status_code for response in responses}
        seconds = (await moment(redis) - begun) / 1_000_000
        assert codes <= {202, 429, 503}
        assert 3 <= await stored(pool) <= 3 + seconds / 20  # one more for each 20 s that the burst took


async def test_of_a_batch_the_first_ones_of_each_player_pass(settings, pool):
    limited = settings.model_copy(update={"rate_limit_player_per_minute": 7})
    async with serving(create_app(limited)) as url, client_of(url) as http:
        users = ["ann", "bob"] * 10
        response = await http.post(f"{PATH}/batch", json=[score(user) for user in users])
        results = [result["status"] for result in response.json()["results"]]
        assert results == ["queued"] * 14 + ["refused"] * 6
        assert await stored(pool) == 14
