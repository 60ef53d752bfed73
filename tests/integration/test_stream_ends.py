"""Streams to their end: kept alive, left, stopped with their process, not read; nothing stays of who has left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time

import pytest
from conftest import client_of, serving
from raw_http import connection_to
from stream_client import STREAM, all_left, client_of_running, listening, streams_of

from api import watch
from api.app import create_app
from api.stream import Stream
from api.stream_states import States
from api.streams import HEARTBEAT_SECONDS, Streams

NEVER = 3600.0


@pytest.fixture
def hints_only(monkeypatch):
    """Nobody asks whether seasons changed."""
    monkeypatch.setattr("api.streams.POLL_SECONDS", NEVER)


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


async def test_quiet_streams_are_kept_alive(http, add, drain, streams):
    async with listening(http, STREAM) as stream:
        await stream.event()
        begun = time.monotonic()
        for seconds in (-1, 1, 2, HEARTBEAT_SECONDS, HEARTBEAT_SECONDS + 2):
            streams._clock = lambda now=begun + HEARTBEAT_SECONDS + seconds: now
            streams.beat()
        await add(("s", "ann", 1))
        await drain()
        assert [await stream.message() for _ in range(2)] == [(None, ""), (None, "")]
        assert await stream.scores() == {"ann": 1}


async def test_who_leaves_is_forgotten(http, add, drain, streams):
    async with contextlib.AsyncExitStack() as stack:
        paths = [f"{STREAM}?userId=p{number}" for number in range(20)]
        opened = [await stack.enter_async_context(listening(http, path)) for path in paths]
        for stream in opened:
            await stream.event()
        assert len(streams) == 20
    await all_left(streams)
    assert not streams._watches
    assert not streams._tasks
    await add(("s", "ann", 1))
    await drain()
    await asyncio.sleep(0)
    gc.collect()
    assert not [found for found in gc.get_objects() if isinstance(found, Stream)]


async def test_who_leaves_before_the_stream_begins_is_no_trouble(http, streams, monkeypatch, caplog):
    held, goes_on, done, first = asyncio.Event(), asyncio.Event(), asyncio.Event(), Streams.joined

    async def held_back(self, *arguments):
        held.set()
        await goes_on.wait()
        return await look_up(self, *arguments)

    @contextlib.contextmanager
    def noted(self, *arguments):
        with first(self, *arguments):
            yield
        done.set()

    look_up = States.first
    monkeypatch.setattr(States, "first", held_back)
    monkeypatch.setattr(Streams, "joined", noted)
    connection = await connection_to(http.base_url)
    connection.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % STREAM.encode())
    await held.wait()
    connection.leave()
    for _ in range(2):  # answered by the loop that sees the client leave
        assert (await http.get("/healthz")).status_code == 200
    goes_on.set()
    await done.wait()
    assert len(streams) == 0
    await http.get("/healthz")  # by then the task is over
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_process_that_stops_ends_its_streams(settings):
    app = create_app(settings)
    async with client_of("http://nowhere") as elsewhere, contextlib.AsyncExitStack() as stack:
        async with serving(app) as base_url:
            elsewhere.base_url = base_url
            opened = [await stack.enter_async_context(listening(elsewhere, STREAM)) for _ in range(3)]
            for stream in opened:
                await stream.event()
        # Whole to its end: a client that only sees the connection break would take it for an error.
        assert [await stream.message() for stream in opened] == [None] * 3
        assert len(streams_of(app)) == 0


async def test_a_process_that_stops_ends_streams_that_begin_and_those_that_nobody_reads(
    settings, add, drain, monkeypatch
):
    held, goes_on, first = asyncio.Event(), asyncio.Event(), States.first

    async def held_back(self, *arguments):
        held.set()
        await goes_on.wait()
        return await first(self, *arguments)

    monkeypatch.setattr("api.http_protocol.WRITE_SECONDS", NEVER)
    await add(*LONG_BOARD)
    await drain()
    app = create_app(settings)
    async with client_of("http://nowhere") as elsewhere:
        async with serving(app) as base_url:
            elsewhere.base_url = base_url
            deaf = await Deaf.at(base_url)
            while not len(streams_of(app)):
                await asyncio.sleep(0)
            monkeypatch.setattr(States, "first", held_back)
            beginning = asyncio.create_task(elsewhere.get(STREAM))
            await held.wait()
            asyncio.get_running_loop().call_later(0.05, goes_on.set)  # while the server waits for its connections
        begun = await beginning
        assert begun.status_code == 200
        deaf.leave()


LONG_BOARD = [("s", f"{number:04}{'é' * 120}", 1000 - number) for number in range(1000)]
"""A thousand players whose top takes a quarter of a megabyte."""
BEST = LONG_BOARD[0][1]


class Deaf:
    """Asks for the stream of all thousand, and does not read it before it is told to."""

    @classmethod
    async def at(cls, base_url):
        self = cls()
        self._connection = await connection_to(base_url)
        self._connection._reader._transport.pause_reading()
        self._connection.send(b"GET %b?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n" % STREAM.encode())
        return self

    async def scores_up_to(self, last):
        """Read on until the best player has that score; which ones came."""
        self._connection._reader._transport.resume_reading()
        text, scores = b"", []
        while last not in scores:
            came = await self._connection._reader.read(2**20)
            assert came, "it was cut"
            text += came
            scores = [int(score) for score in re.findall(rb'"rank":1,"userId":"[^"]*","score":([0-9]+)}', text)]
        return scores

    def leave(self):
        self._connection.leave()


@pytest.fixture
async def crowd(http, add, drain, streams, monkeypatch):
    """A stream that reads, one that does not, and what makes both have another state to show."""
    monkeypatch.setattr(watch, "COALESCE_SECONDS", 0.0)
    monkeypatch.setattr(watch, "_SHARE", 0)
    await add(*LONG_BOARD)
    await drain()
    deaf = await Deaf.at(http.base_url)
    async with listening(http, f"{STREAM}?limit=1") as stream:
        assert await stream.scores() == {BEST: 1000}
        while len(streams) < 2:
            await asyncio.sleep(0)

        async def change(score):
            await add(("s", BEST, 1))
            await drain()
            assert await stream.scores() == {BEST: score}

        yield deaf, change
    deaf.leave()


@pytest.fixture
def patient(monkeypatch):
    """Nobody is cut."""
    monkeypatch.setattr("api.http_protocol.WRITE_SECONDS", NEVER)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("api.http_protocol.WRITE_SECONDS", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_who_does_not_read_is_cut_and_nobody_else_notices(crowd, streams):
    _, change = crowd
    score = 1000
    while len(streams) == 2:
        score += 1
        await change(score)


@pytest.mark.usefixtures("hints_only", "patient")
async def test_who_reads_again_in_time_is_shown_the_newest_state_and_little_before_it(crowd):
    deaf, change = crowd
    for score in range(1001, 1031):
        await change(score)
    scores = await deaf.scores_up_to(1030)
    assert len(scores) < 15
    assert scores == sorted(set(scores))
