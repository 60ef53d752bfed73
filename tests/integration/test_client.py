"""The Python client and the running API: each method, what is asked for again, and what is not.

That a score whose answer was lost counts once is in tests/faults/test_client.py.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from conftest import make_settings, serving
from patience import wait_for_ever
from ports import free_port
from somebody_else import somebody_else

import leaderboard_client
from api.app import create_app
from leaderboard_client import BATCH_SCORES, Ended, Leaderboard, LeaderboardError, Rules, Score

UTC = dt.UTC
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
async def board(http):
    async with Leaderboard(str(http.base_url)) as client:
        yield client


class Pauses(list):
    """How long the client would have waited, in seconds; instead something may happen meanwhile."""

    def __init__(self):
        super().__init__()
        self.meanwhile = lambda: None

    async def pause(self, seconds):
        self.append(seconds)
        self.meanwhile()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    found = Pauses()
    monkeypatch.setattr(leaderboard_client.connection, "sleep", found.pause)
    return found


def places(items):
    return [(item.rank, item.user_id, item.score) for item in items]


def test_each_of_its_modules_is_short_and_knows_the_others_wherever_the_folder_is(tmp_path):
    source = Path(leaderboard_client.__file__).parent
    assert {
        path.name for path in source.glob("*.py") if len(path.read_text(encoding="utf-8").splitlines()) > 249
    } == set()
    shutil.copytree(source, tmp_path / "studio" / "boards")
    code = "import studio.boards, sys; print(studio.boards.Leaderboard.__module__, 'leaderboard_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("studio.boards False\n", "")


async def test_a_season_is_made_set_closed_and_reset(board):
    ends_at = dt.datetime(2096, 12, 24, 18, tzinfo=UTC)
    rules = Rules(aggregation="best", order="asc", ends_at=ends_at, metadata={"laps": 5, "names": ["é"]})
    made = await board.put_season("monza", rules)
    assert (made.season_id, made.state, made.epoch, made.players) == ("monza", "open", 1, 0)
    assert (made.aggregation, made.order, made.starts_at, made.ends_at) == ("best", "asc", None, ends_at)
    assert (made.windows, made.tie_break, made.closed_at, made.changed_at) == (False, "member", None, None)
    assert made.metadata == {"laps": 5, "names": ["é"]}
    assert await board.season("monza") == made
    closed = await board.close_season("monza")
    assert (closed.state, closed.closed_at is None) == ("closed", False)
    assert await board.delete_season("monza") == Ended()
    assert ((await board.season("monza")).state, (await board.season("monza")).epoch) == ("open", 2)
    assert (await board.put_season("monza")).metadata is None
    # Without a score there is nothing to archive.
    assert await board.delete_season("monza", archive=True) == Ended(epoch=2, archived=False)
    assert (await board.season("monza")).epoch == 3
    await board.add("monza", "ann", 1)
    for _ in range(2):  # the second time as after a lost answer
        assert await board.delete_season("monza", archive=True) == Ended(epoch=3, archived=True)
    assert (await board.season("monza")).epoch == 4
    await board.add("monza", "ann", 1)
    assert await board.delete_season("monza", archive=True) == Ended(epoch=4, archived=True)


async def test_seasons_come_page_by_page(board):
    names = [f"s{number}" for number in range(5)]
    for name in names:
        await board.put_season(name)
    for limit in (1, 2, 5, 100):
        page = await board.seasons(limit=limit)
        found = [*page.items]
        while page.next_cursor:
            page = await board.seasons(limit=limit, cursor=page.next_cursor)
            found += page.items
        assert [season.season_id for season in found] == names


async def test_points_are_added_and_every_read_shows_them(board, drain):
    for user_id, delta in (("ann", 3), ("bob", 7), ("cid", 3), ("ann", 4)):
        await board.add("s", user_id, delta)
    await board.add("t", "ann", 1)
    await drain()

    top = await board.top("s", limit=2)
    assert (places(top.items), top.total_players) == ([(1, "bob", 7), (2, "ann", 7)], 3)
    assert places((await board.top("s", cursor=top.next_cursor)).items) == [(3, "cid", 3)]
    assert places((await board.top("s", limit=2, ties="competition")).items) == [(1, "bob", 7), (1, "ann", 7)]

    rank = await board.rank("s", "ann")
    assert (rank.season_id, rank.user_id, rank.rank, rank.score, rank.total_players) == ("s", "ann", 2, 7, 3)
    assert rank.percentile == pytest.approx(200 / 3)
    assert (await board.rank("s", "ann", ties="competition")).rank == 1
    assert await board.rank("s", "nobody") is None

    assert places((await board.around("s", "ann", reach=1)).items) == [(1, "bob", 7), (2, "ann", 7), (3, "cid", 3)]
    assert places((await board.around("s", "cid", reach=0)).items) == [(3, "cid", 3)]
    assert await board.around("s", "nobody") is None
    aimed_at = await board.around_score("s", 5, reach=1)
    assert (aimed_at.rank, places(aimed_at.items)) == (3, [(2, "ann", 7), (3, "cid", 3)])

    ranks = await board.ranks("s", ["cid", "nobody", "bob"])
    assert (places(ranks.items), ranks.total_players) == ([(3, "cid", 3), (1, "bob", 7)], 3)
    assert ranks.items[1].percentile == 100
    found = await board.ranks_of("ann", ties="competition")
    assert [(rank.season_id, rank.rank, rank.total_players) for rank in found.items] == [("s", 1, 3), ("t", 1, 1)]
    assert found.next_cursor is None


async def test_windows_hold_what_was_reached_within_them(board, drain):
    rules = Rules(aggregation="best", windows=True, tie_break="earliest")
    made = await board.put_season("arena", rules)
    assert (made.windows, made.tie_break) == (True, "earliest")
    now = dt.datetime.now(UTC)
    await board.submit("arena", "ann", 900, occurred_at=now - dt.timedelta(hours=30))
    early, late = (Score(who, 700, occurred_at=now - age) for who, age in (("bob", 2 * MINUTE), ("cid", MINUTE)))
    assert [one.status for one in await board.submit_many("arena", [late, early])] == ["queued"] * 2
    await board.add("plain", "ann", 1)
    await drain()

    everyone, recent = [(1, "ann", 900), (2, "bob", 700), (3, "cid", 700)], [(1, "bob", 700), (2, "cid", 700)]
    for window, expected in ((None, everyone), ("24h", recent), ("3d", everyone), ("7d", everyone)):
        top = await board.top("arena", window=window)
        assert (places(top.items), top.total_players) == (expected, len(expected))
        assert places((await board.around("arena", "bob", window=window)).items) == expected
        assert places((await board.ranks("arena", ["ann", "bob", "cid"], window=window)).items) == expected
        aimed_at = await board.around_score("arena", 800, window=window)
        assert aimed_at.rank == len(expected) - 1
        rank = await board.rank("arena", "cid", window=window)
        assert (rank.rank, rank.total_players) == (len(expected), len(expected))
    assert (await board.rank("arena", "cid", window="24h", ties="competition")).rank == 1
    assert await board.rank("arena", "ann", window="24h") is None
    assert await board.around("arena", "ann", window="24h") is None
    assert [rank.season_id for rank in (await board.ranks_of("ann")).items] == ["arena", "plain"]
    assert [rank.season_id for rank in (await board.ranks_of("ann", window="3d")).items] == ["arena"]
    assert (await board.ranks_of("ann", window="24h")).items == ()
    for asked in (board.top("plain", window="24h"), board.rank("plain", "ann", window="24h")):
        with pytest.raises(LeaderboardError) as raised:
            await asked
        assert (raised.value.status, raised.value.code) == (409, "windows_off")


async def test_scores_that_were_reached(board, drain):
    await board.submit("best", "ann", 5)
    await board.submit("best", "ann", 4)
    assert [one.status for one in await board.submit_many("best", [Score("bob", 9), Score("bob", -1)])] == [
        "queued"
    ] * 2
    await drain()
    assert places((await board.top("best")).items) == [(1, "bob", 9), (2, "ann", 5)]


async def test_what_became_of_scores_and_reads_that_wait_for_them(board, drain, monkeypatch):
    stored = await board.add("s", "ann", 5)
    assert stored.event_id.isdecimal()
    assert (stored.queued, stored.rank) == (True, None)
    assert (await board.add("s", "ann", 2, wait=1)).queued
    assert (await board.event("s", stored.event_id)).state == "pending"
    assert (await board.top("s", after=stored.event_id, wait=0)).pending
    await drain()
    wait_for_ever(monkeypatch)
    top, rank = await board.top("s", after=stored.event_id), await board.rank("s", "ann", after=stored.event_id)
    assert (places(top.items), top.pending, rank.pending) == ([(1, "ann", 7)], False, False)
    (result,) = await board.add_many("s", [Score("ann", 1, key="k")])
    again = await board.add("s", "ann", 1, key="k")
    assert again.event_id == result.event_id
    await drain()
    again = await board.add("s", "ann", 1, key="k", wait=2000)
    assert (again.event_id, again.queued) == (result.event_id, False)
    assert (again.score, again.rank, again.previous_rank) == (8, 1, 1)
    page = await board.events("s", "ann", limit=2)
    rest = await board.events("s", "ann", cursor=page.next_cursor)
    assert [event.delta for event in (*page.items, *rest.items)] == [1, 2, 5]
    assert {event.effect for event in page.items} == {"counted"}
    with pytest.raises(LeaderboardError) as raised:
        await board.top("s", after="999")
    assert (raised.value.status, raised.value.code) == (404, "event_not_found")


async def test_ids_that_look_like_paths(board, drain):
    for season_id in (".", "..", "a:b"):
        await board.add(season_id, "a/b é?", 1)
    await drain()
    page = await board.ranks_of("a/b é?")
    assert [rank.season_id for rank in page.items] == [".", "..", "a:b"]
    assert (await board.rank("..", "a/b é?")).rank == 1
    assert [event.season_id for event in (await board.events("..", "a/b é?")).items] == [".."]
    assert (await board.ranks_of("..")).items == ()
    await board.delete_season("..")
    assert (await board.season(".")).players == 1


async def test_thousands_of_scores_are_cut_to_what_a_batch_may_hold(board, drain, truth):
    moment = dt.datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=UTC)
    scores = [Score(f"{number:064}", number + 1, occurred_at=moment) for number in range(2 * BATCH_SCORES + 1)]
    assert {one.status for one in await board.add_many("s", scores)} == {"queued"}
    assert [one.status for one in await board.add_many("s", scores)] == ["replayed"] * len(scores)
    await drain()
    assert (await truth())["s"] == {score.user_id: score.points for score in scores}


async def test_scores_with_long_ids_are_cut_to_what_a_body_may_hold(board):
    """As long as ids and keys may be."""
    scores = [Score("\U0001f3ae" * 124 + f"{number:04}", 1, f"{number:0128}") for number in range(2000)]
    assert [one.status for one in await board.add_many("s", scores)] == ["queued"] * len(scores)
    async with somebody_else(("200 OK", '{"results":[]}')) as (url, sent), Leaderboard(url) as other:
        await other.add_many("s", scores)
        first = sent[0][1]
        *most, last = scores[: len(json.loads(first))]
        room = 1024 * 1024 - len(first)
        assert 0 <= room < len(first) / len(scores)
        for longer, requests in ((room, 1), (room + 1, 2)):
            sent.clear()
            await other.add_many("s", [*most, Score(last.user_id + "x" * longer, 1, last.key)])
            assert len(sent) == requests


async def test_each_score_of_many_has_its_result(board):
    scores = [Score("ann", 1), Score("bob", 0), Score("ann", 1, key="k"), Score("ann", 2, key="k")]
    assert [(one.status, one.code) for one in await board.add_many("s", scores)] == [
        ("queued", None),
        ("refused", "invalid_delta"),
        ("queued", None),
        ("refused", "idempotency_key_reused"),
    ]
    assert [one.code for one in await board.add_many("s", [Score("", 1)])] == ["invalid_user_id"]
    assert [one.code for one in await board.submit_many("s", [Score("ann", 1)] * 2)] == ["wrong_aggregation"] * 2
    assert await board.add_many("s", []) == []


async def test_a_key_of_the_callers_counts_once_over_calls(board, drain, truth):
    for key in ("match-7", "match-7"):
        await board.add("s", "ann", 5, key=key)
    assert [one.status for one in await board.add_many("s", [Score("ann", 5, key="match-7")])] == ["replayed"]
    for _ in range(2):
        await board.add("s", "ann", 5)
    await drain()
    assert await truth() == {"s": {"ann": 15}}


async def test_without_any_answer_it_gives_up_after_its_attempts(pauses):
    async with Leaderboard(f"http://127.0.0.1:{free_port()}", attempts=9) as board:
        with pytest.raises(LeaderboardError) as raised:
            await board.top("s")
    error = raised.value
    assert (error.status, error.code, error.request_id) == (None, "no_answer", None)
    assert "/v1/seasons/s/leaderboard/top" in error.message
    bounds = [min(0.1 * 2**number, 10) for number in range(8)]
    assert all(0 <= seconds <= bound for seconds, bound in zip(pauses, bounds, strict=True))
    assert len({seconds / bound for seconds, bound in zip(pauses, bounds, strict=True)}) == 8


@pytest.fixture
async def hanging(dsn, own_valkey):
    """A client of an API whose Valkey does not answer, until it is told to go on."""
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=300)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("insert into seasons (season_id) values ('s')")
    async with (
        serving(create_app(settings)) as base_url,
        Leaderboard(base_url, timeout_seconds=60, attempts=3) as board,
    ):
        own_valkey.running.send_signal(signal.SIGSTOP)
        board.go_on = lambda: own_valkey.running.send_signal(signal.SIGCONT)
        yield board
        board.go_on()


async def test_a_503_is_asked_for_again_when_it_says_and_told_in_the_end(hanging, pauses):
    with pytest.raises(LeaderboardError) as raised:
        await hanging.season("s")
    assert (raised.value.status, raised.value.code) == (503, "deadline_exceeded")
    assert raised.value.request_id
    assert pauses == [1.0, 1.0]


async def test_a_503_that_passes_is_not_heard_of(hanging, pauses):
    pauses.meanwhile = hanging.go_on
    hanging._attempts = sys.maxsize  # until the service has a connection again; the test's own timeout bounds it
    assert (await hanging.season("s")).players == 0
    assert set(pauses) == {1.0}


async def test_what_is_refused_is_not_sent_again(board, pauses):
    await board.put_season("best", Rules(aggregation="best"))
    for asked, status, code in (
        (board.season("none"), 404, "season_not_found"),
        (board.add("s", "ann", 0), 400, "invalid_delta"),
        (board.add("s", "", 1), 400, "invalid_user_id"),
        (board.add("s", "ann", 1, key="é\n"), 400, "invalid_idempotency_key"),
        (board.add("s", "ann", 1, key=""), 400, "invalid_idempotency_key"),
        (board.add("best", "ann", 1), 409, "wrong_aggregation"),
        (board.top("s", limit=0), 400, "invalid_limit"),
        (board.rank("s", ""), 400, "invalid_user_id"),
        (board.around("s", "ann", reach=101), 400, "invalid_range"),
        (board.ranks("s", []), 400, "invalid_body"),
        (board.add_many("no/season", [Score("ann", 1)]), 400, "invalid_season_id"),
        (board.seasons(limit=0), 400, "invalid_limit"),
    ):
        with pytest.raises(LeaderboardError) as raised:
            await asked
        assert (raised.value.status, raised.value.code) == (status, code)
        assert raised.value.request_id
        assert code in str(raised.value)
    assert pauses == []


async def test_the_api_key_goes_along():
    async with somebody_else(("200 OK", "{}")) as (url, sent), Leaderboard(url, api_key="k-1") as board:
        await board.delete_season("s")
    assert "\r\nauthorization: bearer k-1\r\n" in sent[0][0]


async def test_what_is_sent():
    page = '{"seasonId":"s","items":[],"totalPlayers":0,"nextCursor":null}'
    moment = dt.datetime(2026, 11, 26, 12, tzinfo=UTC)
    answers = ("200 OK", page), ("200 OK", page), ("400 Bad Request", "")
    async with somebody_else(*answers) as (url, sent), Leaderboard(url) as board:
        await board.top("s")
        await board.top("s", window="3d")
        for refused in (
            board.put_season("s"),
            board.put_season("s", Rules(windows=True, tie_break="earliest")),
            board.add("s", "ann", 1, key="k"),
            board.add("s", "ann", 1, key="k", occurred_at=moment),
            board.add_many("s", [Score("ann", 1, key="k", occurred_at=moment)]),
            board.submit("s", "ann", 1, key="k", epoch=2),
        ):
            with pytest.raises(LeaderboardError):
                await refused
    assert [head.partition(" http")[0] for head, _ in sent[:2]] == [
        "get /v1/seasons/s/leaderboard/top?limit=10",
        "get /v1/seasons/s/leaderboard/top?limit=10&window=3d",
    ]
    score = {"userId": "ann", "delta": 1, "eventId": "k", "occurredAt": None}
    late = {**score, "occurredAt": "2026-11-26T12:00:00Z"}
    assert [json.loads(body) for _, body in sent[2:]] == [
        {},
        {"windows": True, "tieBreak": "earliest"},
        score,
        late,
        [late],
        {"userId": "ann", "score": 1, "eventId": "k", "occurredAt": None, "epoch": 2},
    ]


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        ("200 OK", "<html>", "not_understood"),
        ("200 OK", '{"seasonId":5}', "not_understood"),
        ("404 Not Found", "<html>", "not_understood"),
        ("302 Found", "", "not_understood"),
        ("403 Forbidden", '{"message":"nicht verfügbar"}'.encode("latin-1"), "not_understood"),
        ("200 OK", '{"seasonId":"é"}'.encode("latin-1"), "not_understood"),
        ("404 Not Found", '{"error":"no such route","code":5}', "not_understood"),
        ("403 Forbidden", '{"error":{"status":"x"},"code":["x"]}', "not_understood"),
    ],
)
async def test_what_another_server_says_is_told_as_an_error(pauses, status, text, code):
    async with somebody_else((status, text)) as (url, _), Leaderboard(url) as board:
        with pytest.raises(LeaderboardError) as raised:
            await board.rank("s", "ann")
    assert (raised.value.status, raised.value.code, raised.value.request_id) == (int(status[:3]), code, None)
    assert pauses == []


async def test_what_is_no_text_or_far_too_long_is_refused_as_all_else(board):
    """A name that came as JSON may hold half of a surrogate pair."""
    half = json.loads('"\\ud83c"')
    for call, told in (
        (board.add("s", half, 1), (None, "not_sent")),
        (board.add_many("s", [Score("ann", 1), Score(half, 1)]), (None, "not_sent")),
        (board.ranks("s", [half]), (None, "not_sent")),
        (board.rank("s", half), (None, "not_sent")),
        (board.rank("s", "x" * 70_000), (None, "not_sent")),
        (board.top(half), (400, "invalid_season_id")),
        (board.events("s", half), (400, "invalid_user_id")),
        (board.events("s", "x" * 200), (400, "invalid_user_id")),
    ):
        with pytest.raises(LeaderboardError) as raised:
            await call
        assert (raised.value.status, raised.value.code) == told


async def test_what_another_server_says_of_many_scores_is_told_as_an_error():
    for text in ("{}", '{"results":[{"status":"lost"}]}', '{"results":null}'):
        async with somebody_else(("200 OK", text)) as (url, _), Leaderboard(url) as board:
            with pytest.raises(LeaderboardError) as raised:
                await board.add_many("s", [Score("ann", 1)])
        assert (raised.value.status, raised.value.code) == (200, "not_understood")


async def test_a_gateway_without_a_service_behind_it_is_asked_again(pauses):
    ready = ("200 OK", '{"seasonId":"s","items":[],"totalPlayers":0,"nextCursor":null,"ofALaterVersion":1}')
    gone = (("502 Bad Gateway", '{"error":"gone","code":"bad_gateway","requestId":"r"}'), ("504 Gateway Timeout", ""))
    async with somebody_else(*gone, ready) as (url, sent), Leaderboard(url) as board:
        assert (await board.top("s")).items == ()
    assert (len(sent), len(pauses)) == (3, 2)
