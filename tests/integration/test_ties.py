"""Equal scores: who reached it first stands higher, on each board; rank, top and around agree with each other."""

from __future__ import annotations

import datetime as dt
import random

import pytest
from season_calls import SEASON, post, put, top
from window_calls import expected_boards, let_pass

from shared import keys, ledger
from shared.board_entries import TIE_LENGTH, tie_of
from shared.scores import Rules, Score
from shared.seasons import begin_next_epoch
from shared.windows import BOARDS
from worker.sweep import Sweep

PLAYERS = ["ann", "bob", "B", "a", "aa", "Zoë 🎮", "~", "z" * 128, "é", "0", *(f"p{number}" for number in range(15))]


MOMENT = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).isoformat(timespec="seconds")


def places(response):
    assert response.status_code == 200, response.text
    return [(item["rank"], item["userId"], item["score"]) for item in response.json()["items"]]


def sharing(right):
    best = {}
    for rank, _, score in right:
        best.setdefault(score, rank)
    return [(best[score], user_id, score) for _, user_id, score in right]


@pytest.mark.parametrize("tie_break", ["earliest", "member"])
@pytest.mark.parametrize(
    ("aggregation", "order"), [("sum", "desc"), ("sum", "asc"), ("best", "desc"), ("best", "asc"), ("latest", "asc")]
)
async def test_rank_top_and_around_agree_on_every_board(http, pool, drain, aggregation, order, tie_break):
    rng = random.Random(f"{aggregation} {order} {tie_break}")
    rules = Rules(aggregation, order, windows=True, tie_break=tie_break)
    now = dt.datetime.now(dt.UTC)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["race"], rules)
        scores = [
            Score(
                *("race", user_id, rng.randint(1, 4)),
                absolute=aggregation != "sum",
                occurred_at=now - dt.timedelta(seconds=rng.choice((0, 0, 9, 3600, 90_000, 300_000, 700_000))),
            )
            for user_id in rng.choices(PLAYERS, k=60)
        ]
        await ledger.append(conn, scores)
        await drain()
        boards = await expected_boards(conn, "race")
    assert len(set(map(tuple, boards))) == len(boards)
    for window, board in zip(BOARDS, boards, strict=True):
        right = [(rank, user_id, score) for rank, (user_id, score) in enumerate(board, start=1)]
        query = {} if window is None else {"window": window}
        assert right
        for ties, said in (("ordinal", right), ("competition", sharing(right))):
            asked = {**query, "ties": ties}
            assert places(await http.get(f"{SEASON}/leaderboard/top", params={**asked, "limit": 100})) == said
            assert await paged(http, asked) == said
            for number, place in enumerate(said):
                _, user_id, score = place
                rank = (await http.get(f"{SEASON}/leaderboard/rank", params={**asked, "userId": user_id})).json()
                assert (rank["rank"], rank["score"], rank["totalPlayers"]) == (place[0], score, len(said))
                around = await http.get(f"{SEASON}/leaderboard/around", params={**asked, "userId": user_id, "range": 2})
                assert places(around) == said[max(0, number - 2) : number + 3]
            around = await http.get(f"{SEASON}/leaderboard/around", params={**asked, "score": 2, "range": 100})
            assert places(around) == said


async def paged(http, query):
    found, cursor = [], {}
    while cursor is not None:
        response = await http.get(f"{SEASON}/leaderboard/top", params={**query, "limit": 3, **cursor})
        found += places(response)
        behind = response.json()["nextCursor"]
        cursor = {"cursor": behind} if behind else None
    return found


async def test_a_page_goes_on_where_its_last_player_was(http, drain):
    """Who has gone up or down meanwhile is neither told twice nor keeps anybody from being told."""
    await put(http, aggregation="best", tieBreak="earliest")
    for user_id in ("ann", "bob", "cid", "dan"):
        await post(http, user_id, score=5)
    await drain()
    first = (await http.get(f"{SEASON}/leaderboard/top?limit=2")).json()
    assert [item["userId"] for item in first["items"]] == ["ann", "bob"]
    await post(http, "bob", score=9)
    await drain()
    rest = await http.get(f"{SEASON}/leaderboard/top", params={"limit": 5, "cursor": first["nextCursor"]})
    assert [item["userId"] for item in rest.json()["items"]] == ["cid", "dan"]


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_scores_of_one_batch_are_told_apart_by_their_order(http, drain, order):
    await put(http, aggregation="latest", tieBreak="earliest", order=order)
    names = [f"u{number}" for number in random.Random(order).sample(range(2000), 2000)]
    response = await http.post(f"{SEASON}/scores/batch", json=[{"userId": name, "score": 5} for name in names])
    assert response.json()["queued"] == 2000
    await drain()
    found = await http.get(f"{SEASON}/leaderboard/top?limit=1000")
    assert [item["userId"] for item in found.json()["items"]] == names[:1000]


async def test_who_reaches_a_score_again_does_not_lose_the_place(http, drain):
    await put(http, aggregation="best", tieBreak="earliest")
    for user_id, score in (("ann", 5), ("bob", 5), ("ann", 5), ("ann", 3)):
        await post(http, user_id, score=score)
        await drain()
    assert await top(http) == [("ann", 5), ("bob", 5)]


async def test_a_sum_is_reached_by_its_last_score(http, drain):
    await put(http, tieBreak="earliest")
    for user_id, delta in (("ann", 2), ("bob", 5), ("ann", 3)):
        await post(http, user_id, delta=delta)
        await drain()
    assert await top(http) == [("bob", 5), ("ann", 5)]


async def test_a_player_is_on_a_board_once_whatever_its_tie_was(http, pool, projection, drain, redis):
    await put(http, aggregation="latest", tieBreak="earliest", windows=True)
    for _ in range(3):
        await post(http, score=5)
        await drain()
    for window in BOARDS:
        (member,) = await redis.zrange(keys.board("race", window), 0, -1)
        assert member[TIE_LENGTH:] == "ann"
        assert await redis.hgetall(keys.ties("race", window)) == {"ann": member[:TIE_LENGTH]}
    async with pool.connection() as conn:
        await let_pass(conn, redis, 1442)
    await Sweep(pool, projection, lambda _step: None).run()
    assert not await redis.exists(keys.board("race", "24h"), keys.ties("race", "24h"))


@pytest.mark.parametrize("order", ["desc", "asc"])
def test_ties_stand_in_the_order_of_their_moments_and_events(order):
    moments = [0, 1, 999_999, 1_000_000, 1_795_000_000_000_000, 1_795_000_000_000_001, 64_000_000_000_000_000]
    ties = [tie_of(moment, by, order) for moment in moments for by in (0, 1, 63, 64, 10**12, 2**63 - 1)]
    assert ties == sorted(ties, reverse=order == "desc")
    assert len(set(ties)) == len(ties)
    assert {len(tie) for tie in ties} == {TIE_LENGTH}


@pytest.mark.parametrize("aggregation", ["sum", "best", "latest"])
async def test_of_scores_of_the_same_moment_the_first_to_arrive_was_first(http, drain, aggregation):
    """Clients' clocks may tell whole seconds."""
    await put(http, aggregation=aggregation, tieBreak="earliest", windows=True)
    field = "delta" if aggregation == "sum" else "score"
    names = ["9", "10", "11", "2", "x3", "x1", "x2"]
    for name in names[:4]:
        assert await post(http, name, **{field: 5}, occurredAt=MOMENT) == (202, None)
    items = [{"userId": name, field: 5, "occurredAt": MOMENT} for name in names[4:]]
    assert (await http.post(f"{SEASON}/scores/batch", json=items)).json()["queued"] == 3
    await drain()
    assert [user_id for user_id, _ in await top(http)] == names


async def test_ids_break_ties_where_nothing_else_is_asked(http, drain, redis):
    for user_id in ("ann", "cid", "bob"):
        await post(http, user_id, delta=5)
    await drain()
    assert await top(http) == [("cid", 5), ("bob", 5), ("ann", 5)]
    assert await redis.keys("*ties*") == []


async def test_a_board_that_has_lost_its_meta_hash_shows_no_ties_as_parts_of_ids(http, drain, redis):
    await put(http, tieBreak="earliest")
    await post(http, delta=5)
    await drain()
    await redis.delete(keys.meta("race"))
    assert await top(http) == [("ann", 5)]
    assert (await http.get(f"{SEASON}/leaderboard/rank?userId=ann")).json()["rank"] == 1


async def test_a_board_of_a_build_that_knew_no_windows_has_none(http, drain, redis):
    await post(http, delta=5)
    await drain()
    await redis.hdel(keys.meta("race"), "windows", "ties")
    response = await http.get(f"{SEASON}/leaderboard/top?window=24h")
    assert (response.status_code, response.json()["code"]) == (409, "windows_off")
    assert await top(http) == [("ann", 5)]


async def test_a_cursor_of_a_board_that_broke_ties_otherwise_is_refused(http, drain):
    for user_id in ("ann", "bob"):
        await post(http, user_id, delta=5)
    await drain()
    cursor = (await http.get(f"{SEASON}/leaderboard/top?limit=1")).json()["nextCursor"]
    assert (await http.delete(SEASON)).status_code == 200
    await put(http, tieBreak="earliest")
    await post(http, delta=5)
    await drain()
    response = await http.get(f"{SEASON}/leaderboard/top", params={"cursor": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


async def test_many_ranks_of_windows(http, drain):
    await put(http, windows=True)
    old = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=30)).isoformat()
    await post(http, delta=9, occurredAt=old)
    await post(http, "bob", delta=5)
    await post(http, delta=1, path="/v1/seasons/plain")
    await drain()

    async def ranks(window, path=SEASON):
        body = {"userIds": ["ann", "bob"]}
        return await http.post(f"{path}/leaderboard/ranks", params={"window": window}, json=body)

    found = (await ranks("24h")).json()
    assert (found["totalPlayers"], found["notFound"]) == (1, ["ann"])
    assert [(item["userId"], item["rank"]) for item in found["items"]] == [("bob", 1)]
    assert (await ranks("3d")).json()["totalPlayers"] == 2
    refused = await ranks("24h", "/v1/seasons/plain")
    assert (refused.status_code, refused.json()["code"]) == (409, "windows_off")
    assert (await ranks("1h")).json()["code"] == "invalid_window"
    of_ann = (await http.get("/v1/users/ann/ranks?window=3d")).json()
    assert [(item["seasonId"], item["rank"], item["score"]) for item in of_ann["items"]] == [("race", 1, 9)]
    assert (await http.get("/v1/users/ann/ranks?window=24h")).json()["items"] == []


async def test_windows_are_asked_of_seasons_that_have_them(http, drain):
    await post(http, delta=5)
    await drain()
    for path in ("top?", "rank?userId=ann&", "around?userId=ann&", "around?score=5&"):
        response = await http.get(f"{SEASON}/leaderboard/{path}window=24h")
        assert (response.status_code, response.json()["code"]) == (409, "windows_off"), path
        response = await http.get(f"/v1/seasons/nobody/leaderboard/{path}window=24h")
        assert response.status_code == (404 if "userId" in path else 200)
        response = await http.get(f"{SEASON}/leaderboard/{path}window=25h")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_window")


async def test_windows_and_ties_are_settled_once_there_are_scores(http, pool, drain, redis):
    await put(http, windows=True, tieBreak="earliest")
    assert await post(http, delta=5) == (202, None)
    await drain()
    for change in ({"windows": False, "tieBreak": "earliest"}, {"windows": True}):
        assert (await put(http, 409, **change))["code"] == "season_has_scores"
    await put(http, windows=True, tieBreak="earliest", metadata={"a": 1})
    assert (await http.delete(SEASON)).status_code == 200
    assert await post(http, delta=6) == (202, None)
    await drain()
    async with pool.connection() as conn, conn.transaction():
        await begin_next_epoch(conn, "race")  # by a DELETE that could not reach Redis
    await put(http, 200)
    assert await post(http, delta=7) == (202, None)
    await drain()
    assert sorted(await redis.keys("lb:*race*")) == ["lb:{race}", "lb:{race}:meta"]
    assert await redis.hmget(keys.meta("race"), "ties", "windows", "count") == ["member", "0", "1"]
