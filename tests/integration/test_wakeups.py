"""Hints from api to worker: an idle worker is woken, none is lost, and nothing depends on them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from conftest import client_of, make_settings, serving
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from api.app import create_app
from cli.embedded import process
from shared import keys
from shared.redis_client import create_client
from shared.subscription import follow
from shared.wakeups import Wakeups, follow_wakeups
from worker.batch import BatchApplier
from worker.floor import Floor
from worker.loop import Loop

NEVER = 3600.0
"""Seconds between two polls where a test is to show that it was the hint."""


@contextlib.asynccontextmanager
async def at_work(applier, pool, projection, hint, poll_seconds):
    """A worker's loop, and whoever else is to run meanwhile."""
    stop = asyncio.Event()
    loop = Loop(applier, pool, projection, Floor(), hint, batch_size=500, poll_seconds=poll_seconds)
    task = asyncio.create_task(loop.run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextlib.asynccontextmanager
async def following(redis_url, heard):
    """A worker's subscription."""
    client = create_client(redis_url, "worker-wakeups", timeout_seconds=2, retries=0)
    task = asyncio.create_task(follow_wakeups(client, heard))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


@pytest.fixture
def listened():
    """Applies a worker's batches, and has an event set whenever one found nothing."""

    class Listened(BatchApplier):
        idle = asyncio.Event()

        async def apply(self, **arguments):
            batch = await super().apply(**arguments)
            if not batch.events:
                self.idle.set()
            return batch

    return Listened


async def test_a_score_wakes_a_worker_that_would_not_poll(
    http, listened, pool, projection, settings, redis, eventually
):
    hint, heard = asyncio.Event(), asyncio.Event()

    def hear():
        heard.set()
        hint.set()

    applier = listened(pool, projection, 500, lambda _step: None)
    async with following(settings.redis_url, hear), at_work(applier, pool, projection, hint, NEVER):
        await heard.wait()  # once when the subscription stands
        for score in (1, 2, 3):
            applier.idle.clear()
            assert (await http.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 1})).status_code == 202
            await eventually("select 1 from outbox where status = 'pending'", gone=True)
            assert await redis.zscore(keys.board("s"), "ann") == score
            await applier.idle.wait()


async def test_a_hint_that_comes_while_a_batch_finds_nothing_is_not_lost(add, pool, projection, eventually):
    hint = asyncio.Event()
    scores = [("s", "ann", 1)]

    class Overtaken(BatchApplier):
        """Between its empty batch and its rest an event is committed and told of."""

        async def apply(self, **arguments):
            batch = await super().apply(**arguments)
            if not batch.events and scores:
                await add(scores.pop())
                hint.set()
            return batch

    async with at_work(Overtaken(pool, projection, 500, lambda _step: None), pool, projection, hint, NEVER):
        await eventually("select 1 from outbox where status = 'done'")


async def test_of_many_commits_at_once_workers_hear_once_and_of_a_later_one_again(settings, redis):
    messages = 0
    heard = asyncio.Event()

    def hear():
        nonlocal messages
        messages += 1
        heard.set()

    async def next_one():
        await heard.wait()
        heard.clear()

    wakeups = Wakeups(redis)
    async with following(settings.redis_url, hear):
        await next_one()
        for expected in (2, 3):
            for _ in range(1000):
                wakeups.tell()
            await next_one()
            assert messages == expected
        wakeups.tell()  # right behind the others, still told of
        await next_one()
    await wakeups.aclose()


@pytest.fixture
async def hints(settings, redis):
    """Waits for so many hints, then counts all that came since the last count."""
    messages = asyncio.Queue()
    client = create_client(settings.redis_url, "test", timeout_seconds=2, retries=0)
    opened = asyncio.Event()
    task = asyncio.create_task(follow(client, keys.WAKEUPS, heard=messages.put_nowait, opened=opened.set))
    await opened.wait()

    async def count(at_least):
        hints = [await messages.get() for _ in range(at_least)]
        for _ in range(5):  # round trips, in which whatever would be sent at once is
            await redis.publish(keys.WAKEUPS, "ours")
            while (message := await messages.get()) != "ours":
                hints.append(message)
        return len(hints)

    yield count
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.aclose()


async def test_hints_leave_each_other_a_pause(redis, hints, monkeypatch):
    monkeypatch.setattr("shared.wakeups._SPACING_SECONDS", NEVER)
    wakeups = Wakeups(redis)
    wakeups.tell()
    assert await hints(1) == 1
    wakeups.tell()
    await asyncio.sleep(0)  # it would be sent now
    assert await hints(0) == 0
    await wakeups.aclose()


@pytest.mark.parametrize(("commits", "expected"), [(0, 1), (1, 2), (2, 1)])
async def test_commits_close_behind_each_other_leave_their_hint_a_longer_pause(
    redis, hints, monkeypatch, commits, expected
):
    monkeypatch.setattr("shared.wakeups._SPACING_SECONDS", 0)
    monkeypatch.setattr("shared.wakeups._AT_WORK_SECONDS", NEVER)
    wakeups = Wakeups(redis)
    wakeups.tell()
    await asyncio.sleep(0)  # it is being told
    for _ in range(commits):
        wakeups.tell()
    assert await hints(expected) == expected
    await wakeups.aclose()


async def test_a_follower_hears_again_once_redis_is_back(own_valkey):
    heard = asyncio.Event()
    async with following(own_valkey.url(), heard.set):
        await heard.wait()
        own_valkey.running.kill()
        await own_valkey.running.wait()
        heard.clear()  # before it is back: the follower may be faster than we
        own_valkey.running = await own_valkey.start()
        await heard.wait()  # what was told meanwhile is missed, so it polls once
        heard.clear()
        async with Redis.from_url(own_valkey.url()) as client:
            wakeups = Wakeups(client)
            wakeups.tell()
            await heard.wait()
            await wakeups.aclose()


async def test_scores_do_not_wait_for_hints_that_can_not_be_sent(dsn, own_valkey):
    settings = make_settings(dsn, own_valkey.url(), request_timeout_ms=1500)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        await process.stop(own_valkey.program, own_valkey.running, 5)
        for _ in range(3):
            assert (await http.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 1})).status_code == 202
        own_valkey.running = await own_valkey.start()
        heard = asyncio.Event()
        async with following(own_valkey.url(), heard.set):
            await heard.wait()
            heard.clear()
            assert (await http.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 1})).status_code == 202
            await heard.wait()


class Swallowing:
    """A client that takes a cancellation while it connects for a failure of its own, as the library does now and then,
    when exactly is not to be arranged."""

    def __init__(self, *, fails):
        self.fails = fails
        self.connecting = asyncio.Event()
        self.swallowed = False

    def pubsub(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    async def subscribe(self, _channel):
        self.connecting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self.swallowed:  # once, so that a follower that goes on can be ended after all
                raise
            self.swallowed = True
            if self.fails:
                raise RedisConnectionError("cancelled") from None

    async def get_message(self, timeout):  # noqa: ASYNC109 - the library's
        return await asyncio.sleep(timeout)

    async def ping(self):
        pass


@pytest.mark.parametrize("fails", [True, False])
async def test_a_follower_ends_though_its_cancellation_is_swallowed(fails):
    client = Swallowing(fails=fails)
    task = asyncio.create_task(follow(client, "channel", heard=lambda _message: None))
    await client.connecting.wait()
    task.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait([task])
    assert task.cancelled()
