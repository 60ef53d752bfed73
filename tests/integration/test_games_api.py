"""The games API: the wire contract of the service of before, on the same core as the seasons API."""

from __future__ import annotations

import datetime as dt
from importlib.metadata import version

import pytest
from window_calls import let_pass

from shared.scores import MAX_NUMBER, MAX_SCORE
from worker.sweep import Sweep

GAME = "/api/leaderboard"


@pytest.fixture
def send(http, drain):
    """Sends scores of game 7, player by player, and waits until they are shown."""

    async def send_now(*scores, game_id=7, **more):
        for user_id, score in scores:
            body = {"game_id": game_id, "user_id": user_id, "score": score, **more}
            response = await http.post(f"{GAME}/score", json=body)
            assert response.status_code == 200, response.text
        await drain()

    return send_now


async def top(http, game_id=7, **query):
    response = await http.get(f"{GAME}/top/{game_id}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def rank(http, user_id, game_id=7, **query):
    response = await http.get(f"{GAME}/rank/{game_id}/{user_id}", params=query)
    return response.json() if response.status_code == 200 else response.status_code


async def test_health(http):
    before = dt.datetime.now(dt.UTC)
    found = (await http.get("/api/health")).json()
    assert before <= dt.datetime.fromisoformat(found.pop("timestamp")) <= dt.datetime.now(dt.UTC)
    assert found == {"status": "OK", "version": version("season-leaderboard")}


async def test_the_best_score_of_each_player_counts(http, send):
    response = await http.post(f"{GAME}/score", json={"game_id": 7, "user_id": 1, "score": 50})
    assert response.status_code == 200
    assert response.json() == {"game_id": 7, "user_id": 1, "score": 50, "event_id": "2", "accepted": True}
    await send((1, 20), (2, 70), (3, 0), (2, 60))
    assert await top(http) == {
        "game_id": 7,
        "leaders": [
            {"user_id": 2, "score": 70, "rank": 1},
            {"user_id": 1, "score": 50, "rank": 2},
            {"user_id": 3, "score": 0, "rank": 3},
        ],
        "total_players": 3,
        "window": "all",
    }
    assert await rank(http, 1) == {
        "game_id": 7,
        "user_id": 1,
        "score": 50,
        "rank": 2,
        "percentile": pytest.approx(200 / 3),
        "total_players": 3,
        "window": "all",
    }
    assert [leader["user_id"] for leader in (await top(http, limit=1))["leaders"]] == [2]
    assert (await top(http, limit=1))["total_players"] == 3


async def test_an_unknown_game_is_empty_and_an_unknown_player_is_not_found(http, send):
    assert await top(http, 99) == {"game_id": 99, "leaders": [], "total_players": 0, "window": "all"}
    assert await top(http, 99, window="24h") == {"game_id": 99, "leaders": [], "total_players": 0, "window": "24h"}
    assert await rank(http, 1, 99) == 404
    await send((1, 5))
    assert await rank(http, 2) == 404
    assert await rank(http, 2, window="7d") == 404


async def test_who_reached_a_score_first_stands_higher(http, send):
    now = dt.datetime.now(dt.UTC)
    await send((10, 5), (2, 5), (1, 5))
    assert [leader["user_id"] for leader in (await top(http))["leaders"]] == [10, 2, 1]
    await send((3, 5), timestamp=(now - dt.timedelta(hours=1)).isoformat())  # late, but reached before
    await send((2, 5), (1, 4))  # reached again is not reached first
    for window in ({}, {"window": "24h"}, {"window": "7d"}):
        leaders = (await top(http, **window))["leaders"]
        assert [(leader["user_id"], leader["rank"]) for leader in leaders] == [(3, 1), (10, 2), (2, 3), (1, 4)]
        assert [(await rank(http, user_id, **window))["rank"] for user_id in (3, 10, 2, 1)] == [1, 2, 3, 4]


async def test_a_window_holds_what_is_younger_and_lets_go_of_it(http, send, pool, redis, projection):
    now = dt.datetime.now(dt.UTC)
    for user_id, hours in ((1, 1), (2, 30), (3, 100), (4, 200)):
        await send((user_id, user_id * 10), timestamp=(now - dt.timedelta(hours=hours)).isoformat())
    await send((1, 7))
    await send((2, 90), timestamp=(now - dt.timedelta(hours=300)).isoformat())

    async def shown():
        found = {}
        for window in ("24h", "3d", "7d"):
            answer = await top(http, window=window)
            assert answer["window"] == window
            found[window] = {leader["user_id"]: leader["score"] for leader in answer["leaders"]}
            assert answer["total_players"] == len(found[window])
        return found

    assert await shown() == {"24h": {1: 10}, "3d": {1: 10, 2: 20}, "7d": {1: 10, 2: 20, 3: 30}}
    assert {leader["user_id"] for leader in (await top(http))["leaders"]} == {1, 2, 3, 4}
    assert (await rank(http, 2, window="3d"))["score"] == 20
    assert (await rank(http, 2))["score"] == 90
    async with pool.connection() as conn:
        await let_pass(conn, redis, 23 * 60 + 30)
    await Sweep(pool, projection, lambda _step: None).run()
    assert await shown() == {"24h": {1: 7}, "3d": {1: 10, 2: 20}, "7d": {1: 10, 2: 20, 3: 30}}
    async with pool.connection() as conn:
        await let_pass(conn, redis, 48 * 60)
    await Sweep(pool, projection, lambda _step: None).run()
    assert await shown() == {"24h": {}, "3d": {1: 7}, "7d": {1: 10, 2: 20}}
    assert await rank(http, 1, window="24h") == 404
    assert len((await top(http))["leaders"]) == 4


@pytest.mark.parametrize(
    "timestamp", ["2125-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "1969-07-20T20:17:40+14:00"]
)
async def test_a_time_to_come_or_that_no_clock_tells_counts_as_now(http, send, pool, redis, projection, timestamp):
    await send((1, 5), timestamp=timestamp)
    await send((2, 5))
    assert [leader["user_id"] for leader in (await top(http, window="24h"))["leaders"]] == [1, 2]
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1442)
    await Sweep(pool, projection, lambda _step: None).run()
    assert (await top(http, window="24h"))["leaders"] == []


@pytest.mark.parametrize("timestamp", ["2026-01-01T10:00:00Z", "2026-01-01T10:00:00.123456789+05:30", None])
async def test_timestamps_as_clients_write_them(http, timestamp):
    body = {"game_id": 1, "user_id": 1, "score": 1, "timestamp": timestamp}
    assert (await http.post(f"{GAME}/score", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"game_id": 0}, "invalid_game_id"),
        ({"game_id": -1}, "invalid_game_id"),
        ({"game_id": MAX_NUMBER + 1}, "invalid_game_id"),
        ({"game_id": "7"}, "invalid_body"),
        ({"user_id": 0}, "invalid_user_id"),
        ({"user_id": 10**40}, "invalid_user_id"),
        ({"score": -1}, "invalid_score"),
        ({"score": MAX_SCORE + 1}, "invalid_score"),
        ({"score": 1.5}, "invalid_body"),
        ({"score": None}, "invalid_body"),
        ({"timestamp": "yesterday"}, "invalid_body"),
        ({"timestamp": "2026-01-01T10:00:00"}, "invalid_body"),
    ],
)
async def test_what_is_no_score_is_told_so(http, change, code):
    response = await http.post(f"{GAME}/score", json={"game_id": 7, "user_id": 1, "score": 5, **change})
    assert (response.status_code, response.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("top/x", "invalid_game_id"),
        ("top/0", "invalid_game_id"),
        ("top/7?limit=0", "invalid_limit"),
        ("top/7?limit=1001", "invalid_limit"),
        ("top/7?window=1h", "invalid_window"),
        ("top/7?window=all", "invalid_window"),
        ("top/7?window=", "invalid_window"),
        ("rank/7/x", "invalid_user_id"),
        ("rank/07/1", "invalid_game_id"),
        ("rank/7/1?window=8d", "invalid_window"),
    ],
)
async def test_what_is_no_question_is_told_so(http, path, code):
    response = await http.get(f"{GAME}/{path}")
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_it_is_the_season_of_the_same_number(http, send, drain):
    await send((1, 5))
    found = (await http.get("/v1/seasons/game:7/leaderboard/top?window=3d")).json()
    assert found["items"] == [{"rank": 1, "userId": "1", "score": 5}]
    season = (await http.get("/v1/seasons/game:7")).json()
    assert [season[name] for name in ("aggregation", "order", "windows", "tieBreak")] == [
        "best",
        "desc",
        True,
        "earliest",
    ]
    await http.post("/v1/seasons/game:7/scores", json={"userId": "ann", "score": 9})
    await http.post("/v1/seasons/game:8/scores", json={"userId": "2", "score": 9})
    await drain()
    assert [leader["user_id"] for leader in (await top(http, window="24h"))["leaders"]] == ["ann", 1]
    assert [leader["user_id"] for leader in (await top(http, 8, window="24h"))["leaders"]] == [2]
    assert (await http.delete("/v1/seasons/game:7")).status_code == 200
    assert (await top(http))["leaders"] == []


async def test_what_a_put_of_a_game_leaves_out_is_as_of_games(http, send):
    await http.put("/v1/seasons/game:7", json={"metadata": {"name": "Tetris"}})
    await send((1, 5), (2, 5))
    assert [leader["user_id"] for leader in (await top(http, window="24h"))["leaders"]] == [1, 2]
    await http.put("/v1/seasons/game:x", json={})
    assert (await http.get("/v1/seasons/game:x")).json()["aggregation"] == "sum"


async def test_a_season_that_does_not_keep_the_best_or_has_no_windows_says_so(http, drain):
    await http.put("/v1/seasons/game:1", json={"aggregation": "sum"})
    await http.put("/v1/seasons/game:2", json={"windows": False})
    body = {"user_id": 1, "score": 5}
    refused = await http.post(f"{GAME}/score", json={"game_id": 1, **body})
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_aggregation")
    assert (await http.post(f"{GAME}/score", json={"game_id": 2, **body})).status_code == 200
    await drain()
    for path in ("top/2?window=24h", "rank/2/1?window=24h"):
        refused = await http.get(f"{GAME}/{path}")
        assert (refused.status_code, refused.json()["code"]) == (409, "windows_off")
    assert (await top(http, 2))["total_players"] == 1


async def test_a_score_with_a_key_counts_once(http, drain):
    body = {"game_id": 7, "user_id": 1, "score": 5}
    first = await http.post(f"{GAME}/score", json=body, headers={"Idempotency-Key": "k"})
    again = await http.post(f"{GAME}/score", json=body, headers={"Idempotency-Key": "k"})
    other = await http.post(f"{GAME}/score", json={**body, "score": 6}, headers={"Idempotency-Key": "k"})
    assert [first.status_code, again.status_code, other.status_code] == [200, 200, 422]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert await drain() == 1


async def test_kept_answers_of_games_change_with_the_board(http, send):
    await send((1, 5))
    first = await http.get(f"{GAME}/top/7?window=24h")
    again = await http.get(f"{GAME}/top/7?window=24h", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    await send((1, 6))
    again = await http.get(f"{GAME}/top/7?window=24h", headers={"If-None-Match": first.headers["etag"]})
    assert again.json()["leaders"][0]["score"] == 6
