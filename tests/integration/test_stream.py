"""A season's stream: what is sent when, and what never is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest
from conftest import client_of, make_settings, serving
from redis.asyncio import Redis
from stream_client import BOARD, SEASON, STREAM, all_left, client_of_running, listening, streams_of
from structlog.testing import capture_logs
from window_calls import let_pass

from api.app import create_app
from api.boards import Boards
from api.stream_events import Seen, seen_by
from api.stream_states import States
from api.watch import COALESCE_SECONDS, next_look
from cli.embedded import process
from shared import keys
from worker.sweep import Sweep

NEVER = 3600.0


@pytest.fixture
def hints_only(monkeypatch):
    """Nobody asks whether seasons changed."""
    monkeypatch.setattr("api.streams.POLL_SECONDS", NEVER)


@pytest.fixture
def looks(monkeypatch):
    """Of which season and how many each top was that was looked up."""
    done, top = [], Boards.top

    async def noted(self, *arguments, **options):
        found = await top(self, *arguments, **options)
        done.append(arguments)
        return found

    monkeypatch.setattr(Boards, "top", noted)
    return done


@pytest.fixture
def app(settings):
    return create_app(settings)


@pytest.fixture
async def http(app):
    async with client_of_running(app) as client:
        yield client


@pytest.fixture
def streams(app):
    return streams_of(app)


async def test_it_begins_with_how_things_stand_and_tells_what_changes(http, add, drain, streams):
    async with listening(http, f"{STREAM}?limit=2") as stream:
        head = stream.response
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
        assert (head.headers["cache-control"], head.headers["x-accel-buffering"]) == ("no-store", "no")
        assert head.headers["x-request-id"]
        assert await stream.event() == ("top", {"seasonId": "s", "items": [], "totalPlayers": 0, "nextCursor": None})
        assert 1000 <= stream.retry_ms <= 3000
        for total in range(1, 4):
            await add(("s", "ann", 1), ("s", "bob", 5), ("s", "cid", 9))
            await drain()
            name, data = await stream.message()
            assert (name, data) == ("top", (await http.get(f"{BOARD}/top?limit=2")).text)
            assert json.loads(data)["items"][0]["score"] == 9 * total
        assert (await http.delete(SEASON)).status_code == 200
        assert await stream.scores() == {}
    await all_left(streams)


@pytest.mark.usefixtures("hints_only")
async def test_a_rank_is_sent_where_only_that_changed_and_a_top_where_only_that_did(http, add, drain):
    await add(("s", "ann", 100), ("s", "bob", 5), ("s", "cid", 7))
    await drain()
    async with (
        listening(http, f"{STREAM}?limit=1&userId=bob") as both,
        listening(http, f"{STREAM}?limit=1") as top_only,
        listening(http, f"{STREAM}?limit=1&userId=eve") as of_eve,
    ):
        assert await both.scores() == await top_only.scores() == await of_eve.scores() == {"ann": 100}
        assert (await both.event())[1]["rank"] == 3
        assert await of_eve.event() == ("rank", {"seasonId": "s", "userId": "eve", "rank": None})
        await add(("s", "bob", 5))
        await drain()
        assert await both.message() == ("rank", (await http.get(f"{BOARD}/rank?userId=bob")).text)
        await add(("s", "ann", 1))
        await drain()
        assert await both.scores() == await top_only.scores() == await of_eve.scores() == {"ann": 101}
        await add(("s", "eve", 1))  # one player more is another top: it says how many there are
        await drain()
        name, top = await both.event()
        assert (name, top["totalPlayers"]) == ("top", 4)
        assert (await both.event())[1]["percentile"] == 75.0
        assert (await of_eve.event())[0] == "top"
        assert (await of_eve.event())[1]["rank"] == 4
        assert (await http.delete(SEASON)).status_code == 200
        assert await both.scores() == {}
        assert await both.event() == ("rank", {"seasonId": "s", "userId": "bob", "rank": None})


@pytest.mark.usefixtures("hints_only")
async def test_who_says_what_it_saw_last_is_sent_nothing_before_that_changes(http, add, drain):
    await add(("s", "ann", 100), ("s", "bob", 5))
    await drain()
    path = f"{STREAM}?limit=1&userId=bob"
    async with listening(http, path) as stream:
        await stream.event()
        top_only = stream.last_id
        await stream.event()
        all_seen = stream.last_id
    async with listening(http, path, last_event_id=all_seen) as stream:
        await add(("s", "ann", 1))
        await drain()
        assert await stream.scores() == {"ann": 101}
    async with listening(http, path, last_event_id=all_seen) as stream:  # it changed while nobody listened
        assert await stream.scores() == {"ann": 101}
        await add(("s", "bob", 1))
        await drain()
        assert (await stream.event())[1]["score"] == 6
    async with listening(http, path, last_event_id=top_only) as stream:
        assert [(await stream.event())[0] for _ in range(2)] == ["top", "rank"]
    async with listening(http, path, last_event_id="of another service") as stream:
        assert [(await stream.event())[0] for _ in range(2)] == ["top", "rank"]


def test_ids_that_are_none_of_ours_say_nothing():
    tag = b"0123456789abcdef"
    assert seen_by(tag) == Seen(tag)
    assert seen_by(tag + b"." + tag) == Seen(tag, tag)
    for other in (None, b"", b"7", tag + b".", tag + b"\n", b"." + tag, tag.upper(), tag * 2):
        assert seen_by(other) == Seen()


async def test_changes_close_to_each_other_come_together_and_the_last_one_comes(http, add, drain):
    async with listening(http, STREAM) as stream:
        await stream.event()
        started = time.monotonic()
        for _ in range(60):
            await add(("s", "ann", 1))
            await drain()
        events = 1
        while await stream.scores() != {"ann": 60}:
            events += 1
        # The first one may come at once.
        assert events <= (time.monotonic() - started) / COALESCE_SECONDS + 2


def test_looks_keep_their_distance_and_leave_time_to_others():
    assert next_look(10.0, 10.001) == 10.0 + COALESCE_SECONDS
    assert next_look(10.0, 10.2) == pytest.approx(10.8)
    assert next_look(10.0, 13.0) == 22.0


@pytest.mark.usefixtures("hints_only")
async def test_one_look_serves_all_streams_of_a_season(http, add, drain, looks, monkeypatch):
    ranks, look_up = [], Boards.ranks

    async def counted_ranks(self, season_ids, user_ids, **options):
        ranks.append(sorted(user_ids))
        return await look_up(self, season_ids, user_ids, **options)

    async with contextlib.AsyncExitStack() as stack:
        of_players = [f"{STREAM}?userId=p{number}" for number in range(3)]
        paths = [*[STREAM] * 10, *of_players, of_players[0], f"{STREAM}?limit=3"]
        opened = [await stack.enter_async_context(listening(http, path)) for path in paths]
        for stream, path in zip(opened, paths, strict=True):
            await stream.event()
            if "userId" in path:
                await stream.event()
        await add(("s", "ann", 1))
        await drain()
        for stream in opened:
            assert await stream.scores() == {"ann": 1}
        looks.clear()
        monkeypatch.setattr(Boards, "ranks", counted_ranks)
        await add(("s", "ann", 1))
        await drain()
        for stream in opened:
            assert await stream.scores() == {"ann": 2}
    assert sorted(looks) == [("s", 3), ("s", 10)]
    assert ranks == [["p0", "p1", "p2"]]


@pytest.mark.usefixtures("hints_only")
async def test_boards_of_windows_and_shared_ranks_are_streamed_too(http, drain):
    settings = {"aggregation": "best", "windows": True}
    assert (await http.put(SEASON, json=settings)).status_code == 201
    query = "window=24h&ties=competition&limit=3"
    async with listening(http, f"{STREAM}?{query}&userId=cid") as stream:
        assert (await stream.event())[1]["items"] == []
        assert (await stream.event())[1]["rank"] is None
        body = [{"userId": name, "score": 7} for name in ("ann", "bob", "cid")]
        assert (await http.post(f"{SEASON}/scores/batch", json=body)).status_code == 202
        await drain()
        name, data = await stream.message()
        assert (name, data) == ("top", (await http.get(f"{BOARD}/top?{query}")).text)
        assert [item["rank"] for item in json.loads(data)["items"]] == [1, 1, 1]
        name, data = await stream.message()
        assert (name, data) == ("rank", (await http.get(f"{BOARD}/rank?userId=cid&{query}")).text)


async def test_a_stream_of_a_board_that_there_is_not_ends_and_does_not_begin_again(http, add, drain, streams):
    async with listening(http, f"{STREAM}?window=7d") as stream:
        assert await stream.scores() == {}
        await add(("s", "ann", 1))
        await drain()
        assert await stream.message() is None
    assert len(streams) == 0
    refused = await http.get(f"{STREAM}?window=7d")
    assert (refused.status_code, refused.json()["code"]) == (409, "windows_off")
    assert (await http.get("/healthz")).status_code == 200  # on the same connection


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (f"{STREAM}?limit=0", "invalid_limit"),
        (f"{STREAM}?limit=1001", "invalid_limit"),
        (f"{STREAM}?userId=", "invalid_user_id"),
        (f"{STREAM}?window=1h", "invalid_window"),
        (f"{STREAM}?ties=dense", "invalid_ties"),
        (f"{STREAM}?limit=%FF", "invalid_query"),
        ("/v1/seasons/a%20b/leaderboard/stream", "invalid_season_id"),
        ("/v1/seasons//leaderboard/stream", "invalid_season_id"),
    ],
)
async def test_what_is_wrong_is_told_before_the_stream_begins(http, path, code):
    refused = await http.get(path)
    assert (refused.status_code, refused.json()["code"]) == (400, code)


async def test_head_has_the_headers_and_other_methods_are_not_taken(http, streams):
    head = await http.head(STREAM)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream"
    assert "content-length" not in head.headers
    assert len(streams) == 0
    for method in ("POST", "DELETE"):
        refused = await http.request(method, STREAM)
        assert (refused.status_code, sorted(refused.headers["allow"].split(", "))) == (405, ["GET", "HEAD"])


async def test_more_streams_than_are_allowed_are_refused_until_one_leaves(settings):
    app = create_app(settings.model_copy(update={"streams_max": 2}))
    async with serving(app) as base_url, client_of(base_url) as http:
        async with listening(http, STREAM) as stay, listening(http, STREAM) as leave:
            await stay.event()
            await leave.event()
            refused = await http.get(STREAM)
            assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
            assert refused.headers["retry-after"] == "1"
        await all_left(streams_of(app))
        async with listening(http, STREAM) as stream:
            await stream.event()


@pytest.mark.usefixtures("hints_only")
async def test_a_look_from_before_a_stream_began_does_not_put_it_back(http, add, drain, monkeypatch):
    held, goes_on, top = asyncio.Event(), asyncio.Event(), Boards.top

    async def held_back_once(self, *arguments, **options):
        found = await top(self, *arguments, **options)
        if not held.is_set():
            held.set()
            await goes_on.wait()
        return found

    async with contextlib.AsyncExitStack() as stack:
        early = await stack.enter_async_context(listening(http, STREAM))
        await early.event()
        await add(("s", "ann", 1))
        await drain()
        assert await early.scores() == {"ann": 1}
        monkeypatch.setattr(Boards, "top", held_back_once)
        await add(("s", "ann", 1))
        await drain()
        await held.wait()
        await add(("s", "ann", 1))
        await drain()
        while (await http.get(f"{BOARD}/top")).json()["items"][0]["score"] != 3:
            pass
        late = await stack.enter_async_context(listening(http, STREAM))
        assert await late.scores() == {"ann": 3}
        goes_on.set()
        assert [await early.scores() for _ in range(2)] == [{"ann": 2}, {"ann": 3}]
        await add(("s", "ann", 1))
        await drain()
        assert await early.scores() == await late.scores() == {"ann": 4}


@pytest.mark.usefixtures("hints_only")
async def test_what_changes_while_a_stream_begins_is_not_missed(http, add, drain, monkeypatch):
    held, goes_on, first = asyncio.Event(), asyncio.Event(), States.first

    async def held_back(self, *arguments):
        found = await first(self, *arguments)
        held.set()
        await goes_on.wait()
        return found

    async with listening(http, STREAM) as there:
        await there.event()
        monkeypatch.setattr(States, "first", held_back)
        beginning = asyncio.create_task(_first_two(http))
        await held.wait()
        await add(("s", "ann", 1))
        await drain()
        assert await there.scores() == {"ann": 1}
        goes_on.set()
        assert await beginning == [{}, {"ann": 1}]


async def _first_two(http):
    async with listening(http, STREAM) as stream:
        return [await stream.scores() for _ in range(2)]


@pytest.mark.usefixtures("hints_only")
async def test_a_score_that_leaves_a_window_leaves_the_stream(http, pool, redis, projection, drain):
    assert (await http.put(SEASON, json={"windows": True})).status_code == 201
    assert (await http.post(f"{SEASON}/scores", json={"userId": "ann", "delta": 5})).status_code == 202
    await drain()
    async with listening(http, f"{STREAM}?window=24h&userId=ann") as stream:
        assert await stream.scores() == {"ann": 5}
        assert (await stream.event())[1]["rank"] == 1
        async with pool.connection() as conn:
            await let_pass(conn, redis, 24 * 60 + 2)
        await Sweep(pool, projection, lambda _step: None).run()
        assert await stream.scores() == {}
        assert (await stream.event())[1]["rank"] is None


@pytest.fixture
def polled_often(monkeypatch):
    monkeypatch.setattr("api.streams.POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("polled_often")
async def test_a_look_that_fails_by_a_mistake_of_ours_is_not_the_last_one(http, add, drain, monkeypatch):
    async def mistaken(_self, *_arguments, **_options):
        raise RuntimeError("a mistake")

    async with listening(http, STREAM) as stream:
        await stream.event()
        with monkeypatch.context() as broken, capture_logs() as logs:
            broken.setattr(Boards, "top", mistaken)
            await add(("s", "ann", 1))
            await drain()
            while [line["log_level"] for line in logs].count("error") < 4:  # more than hint and poll ask for
                await asyncio.sleep(0)
        assert await stream.scores() == {"ann": 1}


@pytest.mark.usefixtures("polled_often")
async def test_a_season_that_stays_as_it_is_is_asked_for_no_more_than_that(http, add, drain, looks, monkeypatch):
    polls, versions = [], Boards.versions

    async def counted_versions(self, season_ids):
        polls.append(len(looks))
        return await versions(self, season_ids)

    await add(("s", "ann", 1))
    await drain()
    monkeypatch.setattr(Boards, "versions", counted_versions)
    async with listening(http, STREAM) as stream, listening(http, f"{STREAM}?limit=3"):
        await stream.event()
        while len(polls) < 10:
            await asyncio.sleep(0)
    assert polls[-1] == polls[5] <= 4


async def test_a_hint_that_is_lost_does_not_keep_a_change_back(settings, add, drain, monkeypatch):
    monkeypatch.setattr(keys, "CHANGES", "another channel")
    app = create_app(settings)
    async with serving(app) as base_url, client_of(base_url) as http, listening(http, STREAM) as stream:
        await stream.event()
        monkeypatch.undo()
        await add(("s", "ann", 1))
        await drain()
        assert await stream.scores() == {"ann": 1}


@pytest.mark.usefixtures("polled_often")
async def test_without_redis_a_stream_stays_and_none_begins(dsn, own_valkey, looks):
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=1000)
    app = create_app(settings)
    async with (
        serving(app) as base_url,
        client_of(base_url) as http,
        Redis.from_url(own_valkey.url()) as redis,
        listening(http, f"{STREAM}?userId=ann") as stream,
    ):
        await stream.event()
        await stream.event()
        while len(looks) < 2:  # the one that it begins with and the first one of all polls
            await asyncio.sleep(0)
        await process.stop(own_valkey.program, own_valkey.running, 5)
        assert await stream.message() == (None, "the board can't be read at the moment")
        refused = await http.get(STREAM)
        assert (refused.status_code, refused.json()["code"]) == (503, "redis_unavailable")
        assert len(streams_of(app)) == 1
        own_valkey.running = await own_valkey.start()
        await redis.zadd(keys.board("s"), {"ann": 1})
        await redis.hset(keys.meta("s"), "token", 1)
        news = dict([await stream.event() for _ in range(2)])  # in either order: it may come between the two look-ups
        assert [item["userId"] for item in news["top"]["items"]] == ["ann"]
        assert news["rank"]["rank"] == 1
