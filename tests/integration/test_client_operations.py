"""The Python client and the running API: the past, epochs, moderation and exports. All else is in test_client.py."""

from __future__ import annotations

import datetime as dt

import pytest
from conftest import make_settings, serving
from somebody_else import somebody_else

import leaderboard_client
from api.app import create_app
from leaderboard_client import Leaderboard, LeaderboardError, Place, Rules, Score
from worker.sealer import Sealer

MICROSECOND = dt.timedelta(microseconds=1)
UNUSUAL = ["a\u2028b", "é", "dan, jr.", "~"]
"""Ids of which the first holds what Python takes for the end of a line."""


@pytest.fixture
async def board(http):
    async with Leaderboard(str(http.base_url)) as client:
        yield client


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    found = []

    async def pause(seconds):
        found.append(seconds)

    monkeypatch.setattr(leaderboard_client.connection, "sleep", pause)
    return found


def places(items):
    return [(item.rank, item.user_id, item.score) for item in items]


def moved(items):
    return {item.user_id: (item.previous_rank, item.movement) for item in items}


async def refused(call):
    """Its status and code."""
    with pytest.raises(LeaderboardError) as raised:
        await call
    return raised.value.status, raised.value.code


async def test_boards_as_of_a_moment_and_movement_since_one(board, drain):
    for user_id, delta in (("ann", 5), ("bob", 3)):
        stored = await board.add("s", user_id, delta)
    before = (await board.event("s", stored.event_id)).created_at
    for user_id, delta in (("bob", 3), ("cid", 4)):
        stored = await board.add("s", user_id, delta)
    now = (await board.event("s", stored.event_id)).created_at
    await drain()

    for moment in (before, before.astimezone(dt.timezone(dt.timedelta(hours=1)))):
        top = await board.top("s", as_of=moment)
        assert (places(top.items), top.as_of, top.next_cursor) == ([(1, "ann", 5), (2, "bob", 3)], before, None)
    assert places((await board.top("s", as_of=before, limit=1, offset=1)).items) == [(2, "bob", 3)]
    rank = await board.rank("s", "bob", as_of=before)
    assert (rank.rank, rank.score, rank.as_of, rank.previous_rank) == (2, 3, before, None)
    assert await board.rank("s", "cid", as_of=before) is None
    assert places((await board.around("s", "bob", reach=0, as_of=before)).items) == [(2, "bob", 3)]
    assert await board.around("s", "cid", as_of=before) is None
    aimed_at = await board.around_score("s", 4, reach=1, as_of=before)
    assert (aimed_at.rank, places(aimed_at.items)) == (2, [(1, "ann", 5), (2, "bob", 3)])

    movement = {"ann": (1, -1), "bob": (2, 1), "cid": (None, None)}
    for as_of in (None, now):
        assert moved((await board.top("s", movement_since=before, as_of=as_of)).items) == movement
    rank = await board.rank("s", "bob", movement_since=before)
    assert (rank.rank, rank.previous_rank, rank.movement) == (1, 2, 1)
    assert moved((await board.around("s", "ann", movement_since=before)).items) == movement

    assert await refused(board.top("s", as_of=before.replace(tzinfo=None))) == (400, "invalid_moment")
    assert await refused(board.top("s", as_of=before, cursor="k80h")) == (400, "invalid_cursor")
    assert await refused(board.top("s", as_of=before, window="24h")) == (400, "invalid_window")
    assert await refused(board.top("s", movement_since=before, limit=101)) == (400, "invalid_limit")
    assert await refused(board.rank("s", "ann", as_of=before, after=stored.event_id)) == (400, "invalid_wait")
    await board.delete_season("s")
    assert await refused(board.top("s", as_of=before)) == (410, "epoch_gone")


async def test_epochs_and_their_final_ranks(board, drain, pool):
    for user_id, delta in (("ann", 3), ("bob", 7), ("cid", 5)):
        await board.add("cup", user_id, delta)
    assert await refused(board.add("cup", "ann", 1, epoch=2)) == (409, "epoch_mismatch")
    await drain()
    ended = await board.delete_season("cup", archive=True)
    assert (ended.epoch, ended.archived) == (1, True)
    with pytest.raises(LeaderboardError) as raised:
        await board.epoch_top("cup", ended.epoch)
    assert (raised.value.status, raised.value.code) == (409, "epoch_sealing")
    assert raised.value.retry_after_seconds > 0

    sealer = Sealer(pool, pool, lambda _step: None)
    while (await board.epochs("cup")).items[1].state == "sealing":
        await sealer.run()
    assert (await board.add("cup", "dan", 1, epoch=2)).queued
    await drain()
    current, archived = (await board.epochs("cup")).items
    assert (current.epoch, current.state, current.reason, current.players) == (2, "current", None, 1)
    assert (archived.epoch, archived.state, archived.reason, archived.players) == (1, "archived", "reset", 3)
    assert archived.began_at < archived.ended_at < archived.sealed_at
    assert (archived.aggregation, archived.order, archived.windows) == ("sum", "desc", False)
    page = await board.epochs("cup", limit=1)
    assert [one.epoch for one in (await board.epochs("cup", cursor=page.next_cursor)).items] == [1]

    top = await board.epoch_top("cup", 1, limit=2)
    assert (places(top.items), top.total_players, top.epoch) == ([(1, "bob", 7), (2, "cid", 5)], 3, 1)
    for behind in ({"cursor": top.next_cursor}, {"offset": 2}):
        assert places((await board.epoch_top("cup", 1, **behind)).items) == [(3, "ann", 3)]
    rank = await board.epoch_rank("cup", 1, "ann")
    assert (rank.rank, rank.score, rank.total_players, rank.epoch) == (3, 3, 3, 1)
    assert await board.epoch_rank("cup", 1, "dan") is None
    around = await board.epoch_around("cup", 1, "cid", reach=1)
    assert (places(around.items), around.epoch) == ([(1, "bob", 7), (2, "cid", 5), (3, "ann", 3)], 1)
    assert places((await board.epoch_around("cup", 1, "ann", reach=0)).items) == [(3, "ann", 3)]
    assert await board.epoch_around("cup", 1, "dan") is None
    assert await refused(board.epoch_around("cup", 3, "dan")) == (404, "epoch_not_found")
    assert (await board.epoch_rank("cup", 2, "dan")).rank == 1
    assert await refused(board.epoch_top("cup", 3)) == (404, "epoch_not_found")
    assert await refused(board.epochs("none")) == (404, "season_not_found")


async def test_what_operators_do_to_scores_and_players(board, drain):
    first = await board.add("cup", "ann", 50)
    await board.add("cup", "ann", 5)
    await board.add("cup", "bob", 7)
    done = await board.void("cup", first.event_id, reason="a speed hack", by="dana")
    assert (done.action, done.user_id, done.target) == ("void", "ann", first.event_id)
    assert (await board.event("cup", done.event_id)).type == "void"
    await drain()
    assert (await board.event("cup", first.event_id)).state == "voided"
    assert places((await board.top("cup", after=done.event_id)).items) == [(1, "bob", 7), (2, "ann", 5)]
    assert await refused(board.void("cup", first.event_id, reason="again")) == (409, "event_given_up")

    assert (await board.hide("cup", "bob", reason="a rude name")).target is None
    await drain()
    assert await board.rank("cup", "bob") is None
    await board.unhide("cup", "bob", reason="renamed")
    await drain()
    assert (await board.rank("cup", "bob")).rank == 1
    await board.erase("cup", "bob", reason="asked to be forgotten", by="dana")
    await drain()
    assert (await board.events("cup", "bob")).items == ()
    assert places((await board.top("cup")).items) == [(1, "ann", 5)]

    page = await board.moderations("cup", limit=3)
    (voided,) = (await board.moderations("cup", cursor=page.next_cursor)).items
    assert [(one.action, one.user_id, one.by) for one in page.items] == [
        ("erase", None, "dana"),
        ("unhide", None, None),
        ("hide", None, None),
    ]
    assert (voided.action, voided.user_id, voided.target, voided.reason) == (
        "void",
        "ann",
        first.event_id,
        "a speed hack",
    )
    assert {one.state for one in (*page.items, voided)} == {"done"}
    assert voided.applied_at > voided.requested_at
    for call, status, code in (
        (board.void("cup", "999", reason="gone"), 404, "event_not_found"),
        (board.hide("none", "ann", reason="gone"), 404, "season_not_found"),
        (board.unhide("cup", "ann", reason=""), 400, "invalid_reason"),
        (board.erase("cup", "ann", reason="x", by="\n"), 400, "invalid_by"),
        (board.moderations("cup", limit=0), 400, "invalid_limit"),
    ):
        assert await refused(call) == (status, code)


async def test_a_whole_board_comes_player_by_player(board, drain):
    count = 2500  # more than are sent at once
    names = [*UNUSUAL, *(f"u{number:04}" for number in range(count - len(UNUSUAL)))]
    await board.put_season("arena", Rules(windows=True, tie_break="earliest"))
    reached_at = dt.datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=dt.UTC)
    scores = [
        Score(name, count - number, occurred_at=reached_at - number * MICROSECOND) for number, name in enumerate(names)
    ]
    await board.add_many("arena", scores)
    await drain()
    async with board.export("arena") as export:
        about, found = export.about, [place async for place in export]
    assert (about.season_id, about.epoch, about.window, about.players) == ("arena", 1, None, count)
    assert (about.aggregation, about.order, about.windows, about.tie_break) == ("sum", "desc", True, "earliest")
    assert found == [
        Place(number + 1, name, count - number, reached_at - number * MICROSECOND) for number, name in enumerate(names)
    ]
    async with board.export("arena", window="24h") as export:
        assert (export.about.window, [place async for place in export]) == ("24h", [])
    async with board.export("arena") as export:
        async for place in export:
            assert place.rank == 1
            break
    assert (await board.season("arena")).players == count


async def test_an_export_that_cannot_begin_is_an_error_before_its_first_player(board):
    await board.put_season("plain")
    async with board.export("plain") as export:
        assert (export.about.players, [place async for place in export]) == (0, [])
    for season_id, window, status, code in (
        ("none", None, 404, "season_not_found"),
        ("plain", "24h", 409, "windows_off"),
    ):
        with pytest.raises(LeaderboardError) as raised:
            async with board.export(season_id, window=window):
                pytest.fail("it has begun")
        assert (raised.value.status, raised.value.code) == (status, code)


_HEAD = (
    '{"seasonId":"s","epoch":1,"exportedAt":"2026-11-27T04:32:41.383379Z","window":null,"players":2,'
    '"aggregation":"sum","order":"desc","windows":false,"tieBreak":"member"}\n'
)
_FIRST = '{"rank":1,"userId":"ann","score":5}\n'


@pytest.mark.parametrize(
    ("answer", "given", "code"),
    [
        (("200 OK", _HEAD + _FIRST, 50), 1, "cut"),
        (("200 OK", _HEAD + _FIRST + '{"rank":2,', 50), 1, "cut"),
        (("200 OK", _HEAD, 50), 0, "cut"),
        (("200 OK", _HEAD[:20], 50), 0, "cut"),
        (("200 OK", _HEAD + _FIRST), 1, "cut"),
        (("200 OK", "<html>\n"), 0, "not_understood"),
        (("200 OK", ""), 0, "not_understood"),
        (("200 OK", _HEAD + "<html>\n"), 0, "not_understood"),
        (("200 OK", '{"seasonId":"é"}\n'.encode("latin-1")), 0, "not_understood"),
        (("200 OK", (_HEAD + _FIRST.replace("ann", "é")).encode("latin-1")), 0, "not_understood"),
        (("404 Not Found", '{"error":"é"}'.encode("latin-1")), 0, "not_understood"),
        (("404 Not Found", "<html>"), 0, "not_understood"),
        (("404 Not Found", "<html>", 50), 0, "not_understood"),
    ],
)
async def test_an_export_that_is_cut_or_somebody_elses_is_an_error(pauses, answer, given, code):
    async with somebody_else(answer) as (url, sent), Leaderboard(url) as board:
        found = []

        async def take():
            async with board.export("s") as export:
                async for place in export:
                    found.append(place)  # noqa: PERF401 - until the error

        with pytest.raises(LeaderboardError) as raised:
            await take()
    assert raised.value.code == code
    assert [(place.rank, place.user_id) for place in found] == [(1, "ann")] * given
    assert (len(sent), pauses) == (1, [])


async def test_an_export_is_asked_for_again_until_it_begins(pauses):
    busy = ("503 Service Unavailable", '{"error":"busy","code":"overloaded","requestId":"r"}')
    whole = ("200 OK", _HEAD.replace('"players":2', '"players":1') + _FIRST)
    many = 101  # more than there are connections
    async with (
        somebody_else(*[busy] * (many - 1), ("502 Bad Gateway", ""), whole) as (url, sent),
        Leaderboard(url, attempts=many + 1) as board,
        board.export("s", window="7d") as export,
    ):
        assert places([place async for place in export]) == [(1, "ann", 5)]
    assert {head.partition(" http")[0] for head, _ in sent} == {
        "get /v1/seasons/s/leaderboard/export?format=ndjson&window=7d"
    }
    assert (len(sent), len(pauses)) == (many + 1, many)
    async with somebody_else(busy) as (url, _), Leaderboard(url, attempts=2) as board:
        with pytest.raises(LeaderboardError) as raised:
            async with board.export("s"):
                pytest.fail("it has begun")
    assert (raised.value.status, raised.value.code) == (503, "overloaded")


async def test_a_limit_says_when_to_come_again(dsn, servers, redis, pauses):  # noqa: ARG001 - emptied before
    settings = make_settings(dsn, servers.redis_url, rate_limit_player_per_minute=1)
    async with serving(create_app(settings)) as base_url, Leaderboard(base_url) as board:
        await board.add("s", "ann", 1)
        with pytest.raises(LeaderboardError) as raised:
            await board.add("s", "ann", 1)
    assert (raised.value.status, raised.value.code) == (429, "rate_limited")
    assert 0 < raised.value.retry_after_seconds <= 60
    assert pauses == []
