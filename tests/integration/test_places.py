"""What boards say of places, against a sorted list: top with its pages, rank, around players and scores, many ranks."""

from __future__ import annotations

import asyncio
import random
import signal

import httpx2
import psycopg
import pytest
from conftest import client_of, make_settings, serving

from api.app import create_app
from api.boards import Behind
from api.cursors import cursor_behind, place_of
from shared import keys, standings
from shared.scores import MAX_SCORE

SEASON = "/v1/seasons/s"
NAMES = ["ann", "bob", "B", "a", "aa", "Zoë 🎮", "~", "z" * 128, "é", "0", *(f"p{number}" for number in range(20))]


def ranked(scores, order):
    """(rank, player, score), best first, as the docs say where scores are equal."""
    best_first = sorted(scores.items(), key=lambda item: (item[1], item[0].encode()), reverse=order == "desc")
    return [(rank, user_id, score) for rank, (user_id, score) in enumerate(best_first, start=1)]


def sharing(right):
    """The same, those with equal scores on the best rank of them."""
    best = {}
    for rank, _, score in right:
        best.setdefault(score, rank)
    return [(best[score], user_id, score) for _, user_id, score in right]


def items(response):
    assert response.status_code == 200, response.text
    return [(item["rank"], item["userId"], item["score"]) for item in response.json()["items"]]


@pytest.fixture
def board(http, drain):
    """Makes a season of an order with these players' scores."""

    async def make(scores, order="desc"):
        response = await http.put(SEASON, json={"order": order, "aggregation": "latest"})
        assert response.status_code in (200, 201), response.text
        await send(scores)

    async def send(scores):
        body = [{"userId": user_id, "score": score} for user_id, score in scores.items()]
        response = await http.post(f"{SEASON}/scores/batch", json=body)
        assert response.json()["queued"] == len(scores), response.text
        await drain()

    make.send = send
    return make


async def ask(http, what, **query):
    return await http.get(f"{SEASON}/leaderboard/{what}", params=query)


@pytest.mark.parametrize("order", ["desc", "asc"])
@pytest.mark.parametrize("ties", [{}, {"ties": "ordinal"}, {"ties": "competition"}])
async def test_every_place_of_a_board_with_many_equal_scores(http, board, order, ties):
    rng = random.Random(order)
    scores = {name: rng.choice((-2, 0, 0, 1, 1, 1, MAX_SCORE, -MAX_SCORE)) for name in NAMES}
    await board(scores, order)
    one_by_one = ranked(scores, order)
    right = sharing(one_by_one) if ties.get("ties") == "competition" else one_by_one
    total = len(right)
    assert items(await ask(http, "top", limit=1000, **ties)) == right
    everybody = await http.post(f"{SEASON}/leaderboard/ranks", json={"userIds": NAMES}, params=ties)
    assert {item["userId"]: item["rank"] for item in everybody.json()["items"]} == {
        name: rank for rank, name, _ in right
    }
    for place, (rank, user_id, score) in enumerate(right):
        found = (await ask(http, "rank", userId=user_id, **ties)).json()
        assert (found["rank"], found["score"], found["totalPlayers"]) == (rank, score, total)
        assert found["percentile"] == pytest.approx(100 * (total - rank + 1) / total)
        size = rng.randrange(4)
        around = items(await ask(http, "around", userId=user_id, range=size, **ties))
        assert around == right[max(0, place - size) : place + size + 1]
        offset = rng.randrange(total + 3)
        assert items(await ask(http, "top", limit=3, offset=offset, **ties)) == right[offset : offset + 3]
        user_ranks = (await http.get(f"/v1/users/{user_id}/ranks", params=ties)).json()["items"]
        assert [item["rank"] for item in user_ranks] == [rank]


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_the_players_around_a_score(http, board, order):
    scores = {name: number // 3 for number, name in enumerate(NAMES)}
    await board(scores, order)
    right = ranked(scores, order)
    for score in (-MAX_SCORE, -1, 0, 4, 9, 10, MAX_SCORE):
        as_good = sum(other >= score if order == "desc" else other <= score for other in scores.values())
        for size in (0, 2, 100):
            response = await ask(http, "around", score=score, range=size)
            assert items(response) == right[max(0, as_good - size) : as_good + size]
            told = {"seasonId": "s", "score": score, "rank": as_good + 1, "range": size, "items": None}
            assert {**response.json(), "items": None} == told
            response = await ask(http, "around", score=score, range=size, ties="competition")
            assert items(response) == sharing(right)[max(0, as_good - size) : as_good + size]
            assert response.json()["rank"] == as_good + 1 - sum(other == score for other in scores.values())


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_pages_go_on_where_they_were_while_the_board_changes(http, board, order):
    """Whoever does not move is seen once; who moves over the place where a page ended may be missed or seen twice."""
    rng = random.Random(f"pages {order}")
    stay = {name: rng.randrange(4) for name in NAMES[:20]}
    move = {name: rng.randrange(4) for name in NAMES[20:]}
    await board(stay | move, order)
    seen, cursor = [], {}
    while cursor is not None:
        response = await ask(http, "top", limit=3, **cursor)
        seen += [(user_id, score) for _, user_id, score in items(response)]
        told = response.json()["nextCursor"]
        cursor = None if told is None else {"cursor": told}
        await board.send({name: rng.randrange(4) for name in rng.sample(NAMES[20:], 5)})
    assert [each for each in seen if each[0] in stay] == [(user_id, score) for _, user_id, score in ranked(stay, order)]


async def test_a_page_goes_on_behind_a_player_who_is_gone(http, board, redis):
    await board({"ann": 3, "bob": 3, "cid": 3, "dan": 1})
    first = await ask(http, "top", limit=2)
    assert items(first) == [(1, "cid", 3), (2, "bob", 3)]
    await redis.zrem(keys.board("s"), "bob", "cid")
    assert items(await ask(http, "top", limit=2, cursor=first.json()["nextCursor"])) == [(1, "ann", 3), (2, "dan", 1)]


async def test_the_last_page_has_no_cursor(http, board):
    await board({"ann": 3, "bob": 2})
    assert (await ask(http, "top", limit=1)).json()["nextCursor"] is not None
    for query in ({"limit": 2}, {"limit": 3}, {"offset": 1}, {"offset": 7}):
        assert (await ask(http, "top", **query)).json()["nextCursor"] is None
    empty = (await http.get("/v1/seasons/none/leaderboard/top")).json()
    assert empty == {"seasonId": "none", "items": [], "totalPlayers": 0, "nextCursor": None}


@pytest.mark.parametrize(
    ("what", "query", "code"),
    [
        ("top", {"offset": -1}, "invalid_offset"),
        ("top", {"offset": 10**9}, "invalid_offset"),
        ("top", {"cursor": "?"}, "invalid_cursor"),
        ("top", {"cursor": "aGFsbG8"}, "invalid_cursor"),
        ("top", {"cursor": cursor_behind(Behind(2**53, "ann"))}, "invalid_cursor"),
        ("top", {"cursor": cursor_behind(Behind(1, "ann")), "offset": 0}, "invalid_cursor"),
        *((what, {"ties": "dense", "userId": "ann"}, "invalid_ties") for what in ("top", "rank", "around")),
        ("around", {}, "invalid_user_id"),
        ("around", {"score": 1, "userId": "ann"}, "invalid_query"),
        *(("around", {"score": text}, "invalid_score") for text in ("", "1.5", "--1", "²", "9" * 17, 2**53)),
    ],
)
async def test_what_is_no_place_is_refused(http, what, query, code):
    response = await ask(http, what, **query)
    assert (response.status_code, response.json().get("code")) == (400, code)


def test_cursors_are_what_they_were():
    for place in (Behind(0, "a"), Behind(-MAX_SCORE, "Zoë 🎮"), Behind(MAX_SCORE, "x" * 128)):
        assert place_of(cursor_behind(place)) == place


async def test_a_thousand_ranks_in_one_request(http, board):
    scores = {f"p{number}": number % 7 for number in range(900)}
    await board(scores)
    right = {user_id: (rank, score) for rank, user_id, score in ranked(scores, "desc")}
    asked = [f"p{number}" for number in range(1000)]
    random.Random(1).shuffle(asked)
    response = await http.post(f"{SEASON}/leaderboard/ranks", json={"userIds": asked})
    found = response.json()
    assert (response.status_code, found["totalPlayers"]) == (200, 900)
    assert [item["userId"] for item in found["items"]] == [user_id for user_id in asked if user_id in right]
    assert all((item["rank"], item["score"]) == right[item["userId"]] for item in found["items"])
    assert all(item["percentile"] == pytest.approx((901 - item["rank"]) / 9) for item in found["items"])
    assert found["notFound"] == [user_id for user_id in asked if user_id not in right]


async def test_a_player_asked_for_twice_is_answered_once(http, board):
    await board({"ann": 1})
    response = await http.post(f"{SEASON}/leaderboard/ranks", json={"userIds": ["bob", "ann", "ann", "bob"]})
    assert response.json() == {
        "seasonId": "s",
        "totalPlayers": 1,
        "items": [{"userId": "ann", "rank": 1, "score": 1, "percentile": 100.0}],
        "notFound": ["bob"],
    }
    response = await http.post(f"{SEASON}/leaderboard/ranks", json={"userIds": ["bob"]})
    assert (response.json()["totalPlayers"], response.json()["items"]) == (1, [])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"userIds": []}, "invalid_body"),
        ({"userIds": ["a"] * 1001}, "invalid_body"),
        ({"userIds": [""]}, "invalid_user_id"),
        ({"userIds": "ann"}, "invalid_body"),
        ({}, "invalid_body"),
    ],
)
async def test_what_is_no_list_of_players_is_refused(http, body, code):
    response = await http.post(f"{SEASON}/leaderboard/ranks", json=body)
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_a_players_ranks_over_seasons(http, add, drain, monkeypatch):
    await add(*((f"s{number:02}", "ann", number + 1) for number in range(0, 25, 2)))
    await add(*((f"s{number:02}", "bob", 5) for number in range(25)))
    await drain()
    await http.delete("/v1/seasons/s04")
    right = [(f"s{number:02}", 1 if number + 1 > 5 else 2) for number in range(0, 25, 2) if number != 4]
    for walk in (10_000, 3):
        monkeypatch.setattr(standings, "_WALK", walk)
        seen, cursor = [], {}
        while cursor is not None:
            response = await http.get("/v1/users/ann/ranks", params={"limit": 4, **cursor})
            page = response.json()
            assert response.status_code == 200, page
            assert len(page["items"]) <= 4
            seen += [(item["seasonId"], item["rank"]) for item in page["items"]]
            assert all(item["totalPlayers"] == 2 for item in page["items"])
            cursor = None if page["nextCursor"] is None else {"cursor": page["nextCursor"]}
        assert seen == right
    monkeypatch.undo()
    assert (await http.get("/v1/users/nobody/ranks")).json() == {"userId": "nobody", "items": [], "nextCursor": None}


async def test_players_with_any_id_have_ranks(http):
    odd = await http.get("/v1/users/a%2Fb%20%C3%A9/ranks")
    assert (odd.status_code, odd.json()["userId"]) == (200, "a/b é")


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("%FF/ranks", "invalid_user_id"),
        ("%ED%A0%80/ranks", "invalid_user_id"),
        ("%01/ranks", "invalid_user_id"),
        ("x" * 129 + "/ranks", "invalid_user_id"),
        ("a/ranks?cursor=%20", "invalid_cursor"),
    ],
)
async def test_what_is_no_player_or_page_is_refused(http, rest, code):
    response = await http.get(f"/v1/users/{rest}")
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_many_requests_for_many_places_leave_reads_their_connections(http, board):
    """More than Redis' client has connections."""
    await board({f"p{number}": number for number in range(50)})
    body = {"userIds": [f"p{number}" for number in range(50)]}
    async with httpx2.AsyncClient(
        base_url=http.base_url, timeout=120, limits=httpx2.Limits(max_connections=300)
    ) as many:
        asked = [
            asyncio.create_task(ask_many)
            for _ in range(75)
            for ask_many in (
                many.post(f"{SEASON}/leaderboard/ranks", json=body),
                many.get("/v1/users/p1/ranks"),
                many.get("/v1/seasons"),
                many.get(SEASON),
            )
        ]
        for number in range(50):
            assert (await ask(http, "rank", userId=f"p{number}")).status_code == 200
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 503} <= {"overloaded"}
    assert sum(answer.status_code == 200 for answer in answers) >= 64


async def test_while_redis_hangs_many_places_are_answered_in_time(dsn, own_valkey):
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=500)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("insert into seasons (season_id) values ('s')")
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        own_valkey.running.send_signal(signal.SIGSTOP)
        try:
            answers = await asyncio.gather(
                http.post(f"{SEASON}/leaderboard/ranks", json={"userIds": ["ann"]}),
                http.get(SEASON),
                http.get("/v1/seasons"),
            )
        finally:
            own_valkey.running.send_signal(signal.SIGCONT)
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "deadline_exceeded")] * 3
