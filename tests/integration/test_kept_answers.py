"""Answers that the API keeps: never older than what the worker showed last, never kept while nobody listens."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from conftest import client_of, make_settings, serving
from redis.asyncio.client import PubSub

from api.app import create_app
from api.board_changes import follow_changes
from api.top_cache import TopCache, key_of
from cli.embedded import process
from shared import keys
from shared.redis_client import create_client
from shared.subscription import _SILENCE_SECONDS

TOP = "/v1/seasons/s/leaderboard/top"
KEY = (TOP, b"")


async def answer(body):
    return body


async def kept(cache, season_id="s", key=KEY, body=b"{}"):
    await cache.fetch(key, season_id, lambda: answer(body))
    await asyncio.sleep(0)
    return cache.get(key)


@pytest.fixture
def cache():
    cache = TopCache()
    cache.open()
    return cache


async def test_nothing_is_kept_while_closed(cache):
    assert await kept(cache) is not None
    cache.close()
    assert cache.get(KEY) is None
    assert await kept(cache) is None
    cache.open()
    assert await kept(cache) is not None


async def test_a_change_drops_all_answers_of_its_season_and_no_others(cache):
    limited = (TOP, b"limit=3")
    await kept(cache)
    await kept(cache, key=limited)
    await kept(cache, "other", ("/other", b""))
    cache.drop(["s", "unheard-of"])
    assert cache.get(KEY) is None
    assert cache.get(limited) is None
    assert cache.get(("/other", b"")) is not None


async def test_a_look_up_that_a_change_overtook_is_not_kept_nor_joined(cache):
    release = asyncio.Event()

    async def before():
        await release.wait()
        return b"before"

    first = asyncio.create_task(cache.fetch(KEY, "s", before))
    joined = asyncio.create_task(cache.fetch(KEY, "s", lambda: pytest.fail("a second look-up")))
    await asyncio.sleep(0)
    cache.drop(["s"])
    assert (await cache.fetch(KEY, "s", lambda: answer(b"after"))).body == b"after"
    release.set()
    assert (await first).body == (await joined).body == b"before"
    await asyncio.sleep(0)
    assert cache.get(KEY).body == b"after"


async def test_a_failed_look_up_fails_all_who_wait_and_the_next_one_tries_again(cache):
    async def fail():
        raise OSError("away")

    results = await asyncio.gather(*(cache.fetch(KEY, "s", fail) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["away"] * 3
    assert (await cache.fetch(KEY, "s", lambda: answer(b"{}"))).body == b"{}"


async def test_a_client_that_leaves_does_not_cancel_the_look_up_of_the_others(cache):
    release = asyncio.Event()

    async def load():
        await release.wait()
        return b"{}"

    leaving = asyncio.create_task(cache.fetch(KEY, "s", load))
    staying = asyncio.create_task(cache.fetch(KEY, "s", load))
    await asyncio.sleep(0)
    leaving.cancel()
    release.set()
    assert (await staying).body == b"{}"


async def test_an_answer_of_a_second_ago_is_not_given(cache, monkeypatch):
    await kept(cache)
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr("api.top_cache.time.monotonic", lambda: now + 1.01)
    assert cache.get(KEY) is None


async def test_what_is_kept_is_bounded(cache, monkeypatch):
    monkeypatch.setattr("api.top_cache._MAX_BYTES", 2500)
    for number in range(10):
        await kept(cache, f"s{number}", (TOP, b"%d" % number), b"x" * 100)
    assert [number for number in range(10) if cache.get((TOP, b"%d" % number))] == [8, 9]
    assert cache._bytes == 2200
    assert len(cache._keys) == 2


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"", True),
        (b"limit=1", True),
        (b"limit=1000", True),
        (b"limit=010", False),
        (b"limit=10000", False),
        (b"limit=10&x=1", False),
        (b"x", False),
        (b"limit=10\n", False),
    ],
)
def test_only_plain_queries_are_kept_so_that_a_board_has_a_thousand_keys_at_most(query, kept):
    assert key_of({"path": TOP, "query_string": query}) == ((TOP, query) if kept else None)


async def test_a_look_up_beside_a_kept_answer_leaves_the_count_of_bytes_right(cache):
    await kept(cache)
    size = cache._bytes
    await kept(cache)
    assert cache._bytes == size
    cache.close()
    assert cache._bytes == 0


async def test_a_head_request_gets_the_headers_of_the_kept_answer(http, add, drain):
    await add(("s", "ann", 1))
    await drain()
    got = await http.get(TOP)
    head = await http.head(TOP)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("query", ["", "?limit=3", "?limit=03"])
async def test_who_has_the_answer_already_is_told_so_until_it_changes(http, add, drain, query):
    await add(("s", "ann", 1))
    await drain()
    first = await http.get(TOP + query)
    while not first.json()["items"]:
        first = await http.get(TOP + query)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for told in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await http.get(TOP + query, headers={"If-None-Match": told})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == "no-cache"
        assert "content-length" not in again.headers
    for told in ('"other"', tag.strip('"'), ""):
        assert (await http.get(TOP + query, headers={"If-None-Match": told})).content == first.content
    await add(("s", "ann", 1))
    await drain()
    while (changed := await http.get(TOP + query, headers={"If-None-Match": tag})).status_code == 304:
        pass
    assert changed.json()["items"] == [{"rank": 1, "userId": "ann", "score": 2}]


async def test_what_has_no_tag_is_not_to_be_stored(http, add, drain):
    await add(("s", "ann", 1))
    await drain()
    for rest in ("rank", "around"):
        response = await http.get(f"/v1/seasons/s/leaderboard/{rest}?userId=ann")
        assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")


async def test_an_unusual_query_is_answered_all_the_same(http, add, drain):
    await add(("s", "ann", 1))
    await drain()
    response = await http.get(f"{TOP}?limit=0010&x=1")
    assert response.json()["items"] == [{"rank": 1, "userId": "ann", "score": 1}]


async def test_who_resets_a_season_forgets_its_answers_without_being_told(settings, add, drain, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(keys, "CHANGES", "another channel")
        app = create_app(settings)
        async with serving(app) as base_url, client_of(base_url) as http:
            await add(("s", "ann", 1))
            await drain()
            while not (await http.get(TOP)).json()["items"]:
                pass
            elsewhere.undo()
            assert (await http.delete("/v1/seasons/s")).status_code == 200
            assert (await http.get(TOP)).json()["items"] == []


async def test_a_kept_answer_is_sent_as_the_first_one_was_but_for_its_request_id(http):
    ids = set()
    for _ in range(5):
        response = await http.get(TOP)
        assert response.json() == {"seasonId": "s", "items": [], "totalPlayers": 0, "nextCursor": None}
        names = sorted(name for name, _ in response.headers.multi_items())
        assert names == [
            *("cache-control", "content-length", "content-type", "date", "etag", "server", "x-content-type-options"),
            "x-request-id",
        ]
        ids.add(response.headers["x-request-id"])
    assert len(ids) == 5


async def test_a_batch_is_seen_by_who_had_a_kept_answer(http, add, drain):
    for total in range(1, 30):
        await add(("s", "ann", 1))
        await drain()
        # The hint is on its way while this is asked; a kept answer of before goes as soon as it is there.
        while (items := (await http.get(TOP)).json()["items"]) != [{"rank": 1, "userId": "ann", "score": total}]:
            assert items == ([{"rank": 1, "userId": "ann", "score": total - 1}] if total > 1 else [])


async def test_after_a_delete_no_api_shows_the_old_board(settings, add, drain):
    """Two APIs; the one that did not reset the season hears of it before the client does."""
    async with (
        serving(create_app(settings)) as first_url,
        serving(create_app(settings)) as second_url,
        client_of(first_url) as first,
        client_of(second_url) as second,
    ):
        for _ in range(50):
            await add(("s", "ann", 1))
            await drain()
            while not (await second.get(TOP)).json()["items"]:
                pass
            assert (await first.delete("/v1/seasons/s")).status_code == 200
            assert (await second.get(TOP)).json()["items"] == []
            assert (await first.get(TOP)).json()["items"] == []


async def test_without_redis_no_kept_answer_outlives_a_second(dsn, own_valkey):
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=1000)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        assert (await http.get(TOP)).status_code == 200
        await process.stop(own_valkey.program, own_valkey.running, 5)
        while (await http.get(TOP)).status_code == 200:
            pass
        own_valkey.running = await own_valkey.start()
        while (await http.get(TOP)).status_code != 200:
            pass


async def test_the_worker_says_which_seasons_changed(add, drain, redis):
    async with redis.pubsub() as changes:
        await changes.subscribe(keys.CHANGES)
        assert (await changes.get_message(timeout=5))["type"] == "subscribe"
        await add(("one", "ann", 1), ("two", "ann", 1))
        await drain()
        message = await changes.get_message(timeout=5)
    assert sorted(message["data"].split("\n")) == ["one", "two"]


class Forwarder:
    """A network between the API and Valkey that can be cut without a word."""

    def __init__(self, port):
        self._port = port
        self.connections = 0
        self.cut = False

    async def serve(self, reader, writer):
        self.connections += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def copy(source, target):
            while chunk := await source.read(65_536):
                if not self.cut:
                    target.write(chunk)
            target.close()

        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))


async def test_a_subscription_that_was_cut_in_silence_is_noticed_a_quiet_one_is_kept(servers, monkeypatch):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    heard, get_message = [], PubSub.get_message

    async def noted(self, **options):  # what is followed is handed on in the same turn of the loop
        message = await get_message(self, **options)
        if message is not None:
            heard.append(message)
        return message

    monkeypatch.setattr("shared.subscription.time", clock)
    monkeypatch.setattr("shared.subscription._WAIT_SECONDS", 0.02)
    monkeypatch.setattr(PubSub, "get_message", noted)
    address = urlsplit(servers.redis_url)
    network = Forwarder(address.port)
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    url = servers.redis_url.replace(f":{address.port}/", f":{server.sockets[0].getsockname()[1]}/")
    client = create_client(url, "test", timeout_seconds=60, retries=0)
    cache = TopCache()
    following = asyncio.create_task(follow_changes(client, cache, lambda _season_ids: None))
    while not cache._open:
        await asyncio.sleep(0)
    for _ in range(5):
        heard.clear()
        clock.now += 0.9 * _SILENCE_SECONDS
        while not heard:
            assert cache._open
            await asyncio.sleep(0)
    assert network.connections == 1
    network.cut = True
    while cache._open:
        clock.now += 0.01
        await asyncio.sleep(0)
    network.cut = False
    while not cache._open:
        await asyncio.sleep(0)
    assert network.connections > 1
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await client.aclose()
    server.close()
    await server.wait_closed()
