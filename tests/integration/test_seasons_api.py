"""The seasons API of the wire contract, row by row and error by error, over real HTTP."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest
from conftest import client_of, serving
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.app import create_app
from api.direct_cycle import DirectCycle
from shared import keys
from shared.scores import MAX_SCORE

SEASON = "/v1/seasons/spring-26"
EMPTY = {"items": [], "totalPlayers": 0, "nextCursor": None}
ALONE = {"percentile": 100.0, "totalPlayers": 1}
BAD_SEASON_IDS = ["", "a%0Ab", "a" * 65, "a b", "a%2Fb", "caf%C3%A9", "a%00b", "%ff", "a{b}", "a*"]


async def add(http, user_id, delta, season=SEASON):
    response = await http.post(f"{season}/scores", json={"userId": user_id, "delta": delta})
    assert response.status_code == 202, response.text
    return response


def assert_error(response, status, code):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["code"] == code
    assert body["error"]
    assert body["requestId"] == response.headers["x-request-id"]


async def test_a_score_is_queued_then_on_the_board(http, drain):
    response = await add(http, "ann", 5)
    assert response.json() == {"seasonId": "spring-26", "userId": "ann", "eventId": "2", "queued": True}
    assert await drain() == 1
    top = await http.get(f"{SEASON}/leaderboard/top")
    assert top.status_code == 200
    assert top.headers["content-type"] == "application/json"
    items = [{"rank": 1, "userId": "ann", "score": 5}]
    assert top.json() == {"seasonId": "spring-26", "items": items, "totalPlayers": 1, "nextCursor": None}


async def test_202_means_that_score_and_event_are_committed_together(http, pool):
    await add(http, "ann", 5)
    async with pool.connection() as conn:
        ledger = await (await conn.execute("select id, season_id, epoch, user_id, delta from score_events")).fetchall()
        outbox = await (await conn.execute("select id, season_id, epoch, user_id, delta from outbox")).fetchall()
        status = await (await conn.execute("select status, count(*) from outbox group by status")).fetchall()
    assert ledger == outbox
    assert [row[1:] for row in ledger] == [("spring-26", 1, "ann", 5)]
    assert status == [("pending", 1)]


@pytest.mark.parametrize("season_id", ["a", "a" * 64, "A-Z.az_09:x", "game:7", ".."])
async def test_every_season_id_of_the_contract_works(http, drain, season_id):
    # An encoded dot: a client would resolve a literal ".." before it sends.
    season = f"/v1/seasons/{season_id.replace('.', '%2E')}"
    await add(http, "ann", 5, season)
    await drain()
    rank = await http.get(f"{season}/leaderboard/rank", params={"userId": "ann"})
    assert rank.json() == {"seasonId": season_id, "userId": "ann", "rank": 1, "score": 5, **ALONE}


@pytest.mark.parametrize("season_id", BAD_SEASON_IDS)
async def test_any_other_season_id_is_refused_everywhere(http, season_id):
    season = f"/v1/seasons/{season_id}"
    body = {"userId": "ann", "delta": 1}
    assert_error(await http.post(f"{season}/scores", json=body), 400, "invalid_season_id")
    for question in ("top", "rank?userId=ann", "around?userId=ann"):
        assert_error(await http.get(f"{season}/leaderboard/{question}"), 400, "invalid_season_id")
    if season_id:
        assert_error(await http.delete(season), 400, "invalid_season_id")


async def test_a_path_with_more_parts_than_one_below_a_season_is_none_of_its_paths(http):
    """A slash that is not encoded is part of no id: nobody is told that the id is wrong."""
    for method, path in (
        *(("GET", f"{SEASON}/x/leaderboard/{question}") for question in ("top", "rank", "around", "ranks", "export")),
        *(("POST", f"{SEASON}/epochs/1/{action}") for action in ("scores", "scores/batch", "close")),
        ("POST", f"{SEASON}/epochs/1/leaderboard/ranks"),
        ("GET", f"{SEASON}/epochs/1/leaderboard/stream"),
        ("GET", f"{SEASON}/epochs/1/epochs"),
        ("GET", f"{SEASON}/x/events/1"),
        ("GET", f"{SEASON}/x/users/ann/events"),
        ("DELETE", f"{SEASON}/x"),
        ("DELETE", f"{SEASON}/x/users/ann"),
    ):
        assert_error(await http.request(method, path), 404, "not_found")
    for question in ("leaderboard/top", "epochs", "epochs/1/leaderboard/around"):
        assert_error(await http.get(f"/v1/seasons/a%2fb/{question}"), 400, "invalid_season_id")


async def test_a_slash_that_is_encoded_is_no_part_of_the_path(http):
    """An id that reads as a path is an id that no season has, and nothing is done to the season it begins with."""
    await add(http, "ann", 5)
    assert (await http.delete(f"{SEASON}?archive=true")).status_code == 200
    for method, path in (
        *(("GET", f"%2Fepochs%2F2/leaderboard/{question}") for question in ("top", "rank", "around", "stream")),
        ("GET", "%2Fepochs%2f2/leaderboard/export"),
        ("POST", "%2Fepochs/close"),
        ("DELETE", "%2Fclose"),
        ("DELETE", "%2Fusers%2Fann"),
        ("DELETE", "%2Fepochs"),
    ):
        response = await http.request(method, f"{SEASON}{path}", params={"userId": "ann", "reason": "test"})
        assert_error(response, 400, "invalid_season_id")
    await http.get(f"{SEASON}/leaderboard/top")  # it may be kept
    for method, path in (
        *(("POST", "%2Fclose"), ("POST", "%2Fscores")),
        *(("GET", "%2Fusers%2Fann/events"), ("GET", "%2Fmoderations"), ("GET", "%2Fleaderboard/top")),
    ):
        body = {"userId": "bob", "delta": 1} if method == "POST" else None
        assert_error(await http.request(method, f"{SEASON}{path}", json=body), 404, "not_found")
    assert (await http.get(SEASON)).json()["state"] == "open"


@pytest.mark.parametrize("user_id", ["a", "x" * 128, "Zoë 🎮", "{a}", '"\\', "-1", "a/b?c&d=e#f", " "])
async def test_every_user_id_of_the_contract_works(http, drain, user_id):
    await add(http, user_id, 5)
    await drain()
    top = await http.get(f"{SEASON}/leaderboard/top")
    assert top.json()["items"] == [{"rank": 1, "userId": user_id, "score": 5}]
    rank = await http.get(f"{SEASON}/leaderboard/rank", params={"userId": user_id})
    assert rank.json()["userId"] == user_id


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\x00b", "a\nb", "\x7f", "\x85"])
async def test_any_other_user_id_is_refused_everywhere(http, user_id):
    assert_error(await http.post(f"{SEASON}/scores", json={"userId": user_id, "delta": 1}), 400, "invalid_user_id")
    for question in ("rank", "around"):
        response = await http.get(f"{SEASON}/leaderboard/{question}", params={"userId": user_id})
        assert_error(response, 400, "invalid_user_id")


@pytest.mark.parametrize("question", ["rank", "around"])
async def test_a_missing_user_id_is_refused(http, question):
    assert_error(await http.get(f"{SEASON}/leaderboard/{question}"), 400, "invalid_user_id")


@pytest.mark.parametrize("question", ["rank", "around"])
async def test_a_query_that_is_no_utf8_is_refused(http, question):
    assert_error(await http.get(f"{SEASON}/leaderboard/{question}?userId=%ff"), 400, "invalid_query")


@pytest.mark.parametrize("delta", [1, -1, MAX_SCORE, -MAX_SCORE])
async def test_a_delta_within_bounds_is_exact(http, drain, delta):
    await add(http, "ann", delta)
    await drain()
    rank = await http.get(f"{SEASON}/leaderboard/rank", params={"userId": "ann"})
    assert rank.json()["score"] == delta
    around = await http.get(f"{SEASON}/leaderboard/around", params={"userId": "ann"})
    assert around.json()["items"] == [{"rank": 1, "userId": "ann", "score": delta}]
    top = await http.get(f"{SEASON}/leaderboard/top")
    assert top.json()["items"] == [{"rank": 1, "userId": "ann", "score": delta}]
    assert f'"score":{delta}}}' in top.text  # an integer, written as one


@pytest.mark.parametrize("delta", [0, MAX_SCORE + 1, -MAX_SCORE - 1, 2**63, 10**40])
async def test_a_delta_out_of_bounds_is_refused(http, delta):
    body = json.dumps({"userId": "ann", "delta": delta})
    response = await http.post(f"{SEASON}/scores", content=body)
    assert response.status_code == 400
    assert response.json()["code"] in ("invalid_delta", "invalid_body")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"userId":"\xff","delta":1}', "invalid_json"),
        (b'{"userId":"\\ud800","delta":1}', "invalid_json"),
        (b"[" * 100_000, "invalid_body"),
        (b"null", "invalid_body"),
        (b"[]", "invalid_body"),
        (b"{}", "invalid_body"),
        (b'{"userId":"ann"}', "invalid_body"),
        (b'{"delta":1}', "invalid_body"),
        (b'{"userId":7,"delta":1}', "invalid_body"),
        (b'{"userId":null,"delta":1}', "invalid_body"),
        (b'{"userId":"ann","delta":"1"}', "invalid_body"),
        (b'{"userId":"ann","delta":1.5}', "invalid_body"),
        (b'{"userId":"ann","delta":true}', "invalid_body"),
        (b'{"userId":"ann","delta":1e400}', "invalid_body"),
        (b'{"userId":"ann","delta":NaN}', "invalid_json"),
        (b'{"userId":"ann","delta":1,"extra":1}', "invalid_body"),
        (b'{"userId":"ann","delta":1} x', "invalid_json"),
    ],
)
async def test_a_bad_body_is_refused_and_stores_nothing(http, pool, body, code):
    assert_error(await http.post(f"{SEASON}/scores", content=body), 400, code)
    async with pool.connection() as conn:
        assert await (await conn.execute("select * from score_events")).fetchall() == []


async def test_a_body_of_one_mebibyte_is_read_a_larger_one_is_not(http):
    largest = b'{"userId":"ann","delta":1}'.ljust(1024 * 1024)
    assert (await http.post(f"{SEASON}/scores", content=largest)).status_code == 202
    assert_error(await http.post(f"{SEASON}/scores", content=largest + b" "), 413, "body_too_large")

    async def chunks():
        yield largest
        yield b" "

    assert_error(await http.post(f"{SEASON}/scores", content=chunks()), 413, "body_too_large")
    assert (await http.get("/healthz")).status_code == 200


async def test_top_is_highest_first_and_limited(http, drain):
    for place in range(12):
        await add(http, f"u{place}", 100 - place)
    await drain()
    top = await http.get(f"{SEASON}/leaderboard/top")
    assert [item["score"] for item in top.json()["items"]] == list(range(100, 90, -1))
    top = await http.get(f"{SEASON}/leaderboard/top?limit=1000")
    assert [item["userId"] for item in top.json()["items"]] == [f"u{place}" for place in range(12)]
    top = await http.get(f"{SEASON}/leaderboard/top?limit=1")
    assert top.json()["items"] == [{"rank": 1, "userId": "u0", "score": 100}]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.0", "1e2", "+5", " 5", "9" * 50, "٣"])
async def test_a_bad_limit_is_refused(http, limit):
    assert_error(await http.get(f"{SEASON}/leaderboard/top", params={"limit": limit}), 400, "invalid_limit")


async def test_an_unknown_season_is_an_empty_board(http):
    response = await http.get(f"{SEASON}/leaderboard/top")
    assert response.status_code == 200
    assert response.json() == {"seasonId": "spring-26", **EMPTY}


async def test_rank_counts_from_one_at_the_top(http, drain):
    for user_id, points in (("low", 1), ("high", 9), ("middle", 5)):
        await add(http, user_id, points)
    await drain()
    for user_id, rank, score in (("high", 1, 9), ("middle", 2, 5), ("low", 3, 1)):
        response = await http.get(f"{SEASON}/leaderboard/rank", params={"userId": user_id})
        percentile = pytest.approx(100 * (4 - rank) / 3)
        told = {"rank": rank, "score": score, "percentile": percentile, "totalPlayers": 3}
        assert response.json() == {"seasonId": "spring-26", "userId": user_id, **told}


@pytest.mark.parametrize("question", ["rank", "around"])
async def test_a_player_who_is_not_on_the_board_is_404(http, drain, question):
    await add(http, "ann", 1)
    await drain()
    assert_error(await http.get(f"{SEASON}/leaderboard/{question}?userId=bob"), 404, "not_on_board")
    assert_error(await http.get(f"/v1/seasons/other/leaderboard/{question}?userId=ann"), 404, "not_on_board")


@pytest.mark.parametrize(
    ("user_id", "size", "ranks"),
    [
        ("u1", 2, [1, 2, 3]),
        ("u5", 2, [3, 4, 5, 6, 7]),
        ("u9", 2, [7, 8, 9]),
        ("u5", 0, [5]),
        ("u5", 100, list(range(1, 10))),
        ("u2", None, list(range(1, 8))),
    ],
)
async def test_around_shows_that_many_on_each_side_fewer_at_the_edges(http, drain, user_id, size, ranks):
    for rank in range(1, 10):
        await add(http, f"u{rank}", 10 - rank)
    await drain()
    parameters = {"userId": user_id} if size is None else {"userId": user_id, "range": size}
    response = await http.get(f"{SEASON}/leaderboard/around", params=parameters)
    assert response.json() == {
        "seasonId": "spring-26",
        "userId": user_id,
        "range": 5 if size is None else size,
        "items": [{"rank": rank, "userId": f"u{rank}", "score": 10 - rank} for rank in ranks],
    }


@pytest.mark.parametrize("size", ["101", "-1", "x", ""])
async def test_a_bad_range_is_refused(http, size):
    response = await http.get(f"{SEASON}/leaderboard/around", params={"userId": "ann", "range": size})
    assert_error(response, 400, "invalid_range")


async def test_delete_empties_the_board_and_old_scores_never_come_back(http, drain):
    await add(http, "shown", 5)
    await drain()
    await add(http, "pending", 5)
    response = await http.delete(SEASON)
    assert response.status_code == 200
    assert response.json() == {"seasonId": "spring-26", "deleted": True}
    assert (await http.get(f"{SEASON}/leaderboard/top")).json()["items"] == []
    assert await drain() == 1
    assert (await http.get(f"{SEASON}/leaderboard/top")).json()["items"] == []
    await add(http, "shown", 1)
    await drain()
    assert (await http.get(f"{SEASON}/leaderboard/top")).json()["items"] == [{"rank": 1, "userId": "shown", "score": 1}]


async def test_delete_of_an_unknown_season_works_and_works_again_and_leaves_nothing(http, pool):
    for _ in range(2):
        response = await http.delete("/v1/seasons/never-seen")
        assert response.status_code == 200
        assert response.json() == {"seasonId": "never-seen", "deleted": True}
    async with pool.connection() as conn:
        assert await (await conn.execute("select * from seasons")).fetchall() == []


async def test_seasons_do_not_see_each_other(http, drain):
    await add(http, "ann", 1, "/v1/seasons/one")
    await add(http, "ann", 2, "/v1/seasons/two")
    await drain()
    await http.delete("/v1/seasons/one")
    assert (await http.get("/v1/seasons/one/leaderboard/top")).json()["items"] == []
    assert (await http.get("/v1/seasons/two/leaderboard/top")).json()["items"] == [
        {"rank": 1, "userId": "ann", "score": 2}
    ]


async def test_concurrent_scores_share_commits_and_all_count(http, drain):
    await asyncio.gather(*(add(http, f"u{number % 7}", 1, f"/v1/seasons/s{number % 3}") for number in range(210)))
    assert await drain() == 210
    for season in range(3):
        items = (await http.get(f"/v1/seasons/s{season}/leaderboard/top")).json()["items"]
        assert sum(item["score"] for item in items) == 70


async def test_probes(http):
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    response = await http.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready", "redis": "ok", "postgres": "ok", "schema": "ok"}


async def test_readyz_tells_a_missing_schema(http, pool):
    async with pool.connection() as conn:
        await conn.execute("update alembic_version set version_num = '0000'")
        response = await http.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "not_ready", "redis": "ok", "postgres": "ok", "schema": "missing"}
        await conn.execute("drop table alembic_version")
        assert (await http.get("/readyz")).json()["schema"] == "missing"


@pytest.mark.parametrize("path", ["/v1/seasons/", "/v1/seasons/x/y", "/v1/seasons/x/leaderboard", "/healthz/"])
async def test_an_unknown_path_is_404(http, path):
    assert_error(await http.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/scores", {"POST"}),
        ("PUT", "/scores", {"POST"}),
        ("POST", "/leaderboard/top", {"GET", "HEAD"}),
        ("POST", "", {"GET", "HEAD", "PUT", "DELETE"}),
        ("GET", "/close", {"POST"}),
        ("DELETE", "/close", {"POST"}),
        ("DELETE", "/scores", {"POST"}),
        ("GET", "/scores/batch", {"POST"}),
        ("DELETE", "/scores/batch", {"POST"}),
        ("DELETE", "/leaderboard/rank", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_405_and_says_which_are_right(http, method, path, allowed):
    response = await http.request(method, f"{SEASON}{path}")
    assert_error(response, 405, "method_not_allowed")
    assert set(response.headers["allow"].split(", ")) == allowed


async def test_the_clients_request_id_comes_back(http):
    response = await http.get("/healthz", headers={"x-request-id": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    for malformed in ("a b", "x" * 65, '"'):
        response = await http.get("/healthz", headers={"x-request-id": malformed})
        assert response.headers["x-request-id"] != malformed


async def test_a_bug_is_answered_and_logged_under_the_same_id_and_tells_nothing(settings, monkeypatch):
    password = "a password among the local variables"

    async def broken(_self, _season_id, _limit):
        secret = password
        raise ZeroDivisionError(len(secret))

    monkeypatch.setattr("api.boards.Boards.top", broken)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        response = await http.get(f"{SEASON}/leaderboard/top")
    assert_error(response, 500, "internal_error")
    assert "ZeroDivisionError" not in response.text


async def test_a_content_length_of_thousands_of_digits(http):
    body = b'{"userId":"ann","delta":1}'
    for length, status in (("0" * 5000 + str(len(body)), b"202"), ("0" * 5000 + "9" * 5000, b"413")):
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        head = f"POST {SEASON}/scores HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        assert answer.split()[1] in (status, b"400"), answer


async def test_no_request_leaves_anything_for_the_collector(http, add, drain):
    await add(("s", "ann", 1))
    await drain()
    season = "/v1/seasons/s"
    asked = [
        ("POST", f"{season}/scores", 202, {"userId": "ann", "delta": 1}),
        ("POST", f"{season}/scores", 400, {"userId": "ann", "delta": 0}),
        ("POST", f"{season}/scores/batch", 202, [{"userId": "ann", "delta": 1}]),
        ("GET", f"{season}/leaderboard/top", 200, None),
        ("GET", f"{season}/leaderboard/rank?userId=ann", 200, None),
        ("GET", f"{season}/leaderboard/rank?userId=bob", 404, None),
        ("GET", f"{season}/leaderboard/around?userId=ann", 200, None),
        ("GET", "/healthz", 200, None),
        ("GET", "/nowhere", 404, None),
        ("PUT", f"{season}/scores", 405, None),
    ]
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            for method, path, status, body in asked:
                response = await http.request(method, path, json=body)
                assert response.status_code == status
        # That of the last request belongs to its connection.
        assert sum(isinstance(found, (RequestResponseCycle, DirectCycle)) for found in gc.get_objects()) <= 1
    finally:
        gc.enable()


async def test_a_board_that_can_not_be_read_fails_no_look_up_of_another(http, add, drain, redis):
    await add(("good", "ann", 1), ("bad", "ann", 1))
    await drain()
    await redis.zadd(keys.board("bad"), {b"\xff": 2})
    paths = [f"/v1/seasons/{season}/leaderboard/around?userId=ann" for season in ("good", "bad")]
    good, bad = await asyncio.gather(*map(http.get, paths))
    assert good.json()["items"] == [{"rank": 1, "userId": "ann", "score": 1}]
    assert (bad.status_code, bad.headers["retry-after"]) == (503, "1")
