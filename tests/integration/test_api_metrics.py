"""/metrics of the API: what is counted is what happened, and no label holds what a client made up."""

from __future__ import annotations

import pytest
from conftest import client_of, serving
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from stream_client import client_of_running

from api.app import create_app
from shared import api_keys

TOP = "/v1/seasons/s/leaderboard/top"
SCORES = "/v1/seasons/s/scores"
SEASON = "/v1/seasons/{sid}"


async def metrics_of(http, **headers):
    response = await http.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def requests(found, route, method, status):
    labels = sorted({"route": route, "method": method, "status": str(status)}.items())
    return found.get(("leaderboard_http_request_duration_seconds_count", *labels), 0)


async def test_every_request_is_counted_once_by_its_route(http, connect):
    for _ in range(7):
        assert (await http.get(TOP)).status_code == 200  # kept, but for the first
    for user in range(5):
        assert (await http.post(SCORES, json={"userId": f"u{user}", "delta": 1})).status_code == 202
    await http.post(SCORES, json={"userId": "", "delta": 1})
    await http.post(f"{SCORES}/batch", json=[{"userId": "ann", "delta": 1}] * 3)
    await http.get("/v1/seasons/s/leaderboard/rank?userId=nobody")
    await http.get("/v1/seasons/a%20b/leaderboard/top")
    await http.get("/api/leaderboard/top/7")
    await http.get("/v1/seasons/s")
    await http.get("/a/path/that/is/none")
    await http.request("PATCH", TOP)
    await http.request("PROPFIND", "/made/up")
    connection = await connect()
    connection.send(b"GET /v1/seasons/t/leaderboard/top HTTP/1.0\r\n\r\n")
    await connection.head()
    found = await metrics_of(http)
    assert {
        (route, method, status): requests(found, route, method, status)
        for route, method, status in [
            (f"{SEASON}/leaderboard/top", "GET", 200),
            (f"{SEASON}/leaderboard/top", "GET", 400),
            (f"{SEASON}/scores", "POST", 202),
            (f"{SEASON}/scores", "POST", 400),
            (f"{SEASON}/scores/batch", "POST", 202),
            (f"{SEASON}/leaderboard/rank", "GET", 404),
            ("/api/leaderboard/top/{game_id}", "GET", 200),
            (SEASON, "GET", 200),
            ("other", "GET", 404),
            ("other", "other", 404),
            (f"{SEASON}/leaderboard/top", "other", 405),
        ]
    } == {
        (f"{SEASON}/leaderboard/top", "GET", 200): 8,
        (f"{SEASON}/leaderboard/top", "GET", 400): 1,
        (f"{SEASON}/scores", "POST", 202): 5,
        (f"{SEASON}/scores", "POST", 400): 1,
        (f"{SEASON}/scores/batch", "POST", 202): 1,
        (f"{SEASON}/leaderboard/rank", "GET", 404): 1,
        ("/api/leaderboard/top/{game_id}", "GET", 200): 1,
        (SEASON, "GET", 200): 1,
        ("other", "GET", 404): 1,
        ("other", "other", 404): 1,
        (f"{SEASON}/leaderboard/top", "other", 405): 1,
    }
    labels = {value for key in found for _, value in key[1:]}
    assert not {label for label in labels if "made" in label or "PROPFIND" in label or "u1" in label or "a b" in label}


async def test_buckets_add_up_and_time_does(http):
    for _ in range(3):
        await http.get(TOP)
    found = await metrics_of(http)
    name, labels = "leaderboard_http_request_duration_seconds", {"route": f"{SEASON}/leaderboard/top"}
    labels |= {"method": "GET", "status": "200"}
    buckets = [
        value for key, value in found.items() if key[0] == f"{name}_bucket" and labels.items() <= dict(key[1:]).items()
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == requests(found, labels["route"], "GET", 200) == 3
    assert found[f"{name}_sum", *sorted(labels.items())] > 0


async def test_what_the_process_does_is_told(settings, monkeypatch):
    monkeypatch.setattr("api.top_cache._MAX_AGE_SECONDS", 3600)
    async with client_of_running(create_app(settings)) as http:  # nothing is kept before it hears what changes
        await http.get(TOP)
        await http.get(TOP)
        await http.post(f"{SCORES}/batch", json=[{"userId": "ann", "delta": 1}] * 40)
        found = await metrics_of(http)
    assert found["leaderboard_scores_committed_total",] == 40
    assert found["leaderboard_group_commit_scores_count",] == 1
    assert found["leaderboard_group_commit_scores_bucket", ("le", "32.0")] == 0
    assert found["leaderboard_group_commit_scores_bucket", ("le", "64.0")] == 1
    assert found["leaderboard_group_commit_seconds_count",] == 1
    assert found["leaderboard_top_cache_lookups_total", ("result", "hit")] == 1
    assert found["leaderboard_top_cache_lookups_total", ("result", "miss")] == 1
    assert found["leaderboard_pool_waiting",] == 0
    assert found["leaderboard_pool_max",] == 50
    assert found["leaderboard_pool_open",] >= 1


@pytest.mark.parametrize("read_access", ["open", "keyed"])
async def test_once_there_are_keys_it_needs_one_that_may_read_all(settings, pool, read_access):
    changes = {"admin_key": SecretStr("k" * 24), "read_access": read_access}
    async with pool.connection() as conn:
        keys = [
            (200, await api_keys.create(conn, "prometheus", ["read"], [])),
            (403, await api_keys.create(conn, "game", ["write"], [])),
            (403, await api_keys.create(conn, "eu", ["read"], ["eu-"])),
        ]
    async with serving(create_app(settings.model_copy(update=changes))) as url, client_of(url) as http:
        assert (await http.get("/metrics")).status_code == 401
        for status, key in keys:
            response = await http.get("/metrics", headers={"Authorization": f"Bearer {key}"})
            assert response.status_code == status
