"""`leaderboard watch` as a process: in lines, as JSON, in a terminal, with keys, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
import sys

import msgspec
import pytest
from conftest import client_of, make_settings, serving
from own_worker import working

from api.app import create_app
from cli.migrations import ROOT

KEY = "an-admin-key-for-this-test-alone"


@contextlib.asynccontextmanager
async def service(settings):
    """A service with a worker; yields its address and how to post a score."""
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http, working(settings):
        http.headers["Authorization"] = f"Bearer {KEY}"

        async def score(user_id, delta):
            answer = await http.post("/v1/seasons/cup/scores", json={"userId": user_id, "delta": delta})
            assert answer.status_code == 202

        yield base_url, score


async def started(*argv, key=KEY, **streams):
    given = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **streams}
    environment = {**os.environ, "LEADERBOARD_KEY": key}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "watch", *argv, cwd=ROOT, env=environment, **given
    )


async def line_of(process):
    """The next line's words, but for the time."""
    return (await process.stdout.readline()).decode().rstrip("\n").split("\t")[1:]


@pytest.fixture
def keyed(dsn, servers, redis):  # noqa: ARG001 - emptied before
    return make_settings(dsn, servers.redis_url, admin_key=KEY, read_access="keyed")


@pytest.mark.parametrize("streams_max", [100, 0])
async def test_lines_for_what_changes_from_the_stream_and_without_one(keyed, streams_max):
    async with service(keyed.model_copy(update={"streams_max": streams_max})) as (base_url, score):
        await score("ann", 5)
        await score("bob", 3)
        process = await started("--base-url", base_url)  # the season that changed last
        seen = {}
        while len(seen) < 2 or seen["bob"] != ["2", "3"]:
            rank, _, points, user_id = await line_of(process)
            seen[user_id] = [rank, points]
        await score("bob", 4)
        assert await line_of(process) == ["1", "▲1", "7", "bob"]
        assert await line_of(process) == ["2", "▼1", "5", "ann"]
        process.send_signal(signal.SIGINT)
        _, told = await process.communicate()
        assert process.returncode == 130
        assert b"Traceback" not in told


async def test_once_as_json_and_what_goes_wrong(keyed):
    async with service(keyed) as (base_url, score):
        process = await started("--base-url", base_url, "--once")
        _, told = await process.communicate()
        assert (process.returncode, b"there is no season" in told) == (1, True)
        await score("ann", 5)
        process = await started("cup", "--base-url", base_url, "--once", "--json")
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert msgspec.json.decode(out)["seasonId"] == "cup"
        process = await started("cup", "--base-url", base_url, key="wrong")
        _, told = await process.communicate()
        assert (process.returncode, b"key" in told) == (1, True)
    process = await started("cup", "--base-url", base_url, "--once")
    _, told = await process.communicate()
    assert (process.returncode, b"does not answer" in told) == (1, True)


async def test_in_a_terminal_it_draws_and_leaves_cleanly(keyed):
    async with service(keyed) as (base_url, score):
        await score("ann", 5)
        ours, theirs = pty.openpty()
        process = await started("cup", "--base-url", base_url, stdout=theirs, stderr=theirs)
        os.close(theirs)
        loop, shown, news = asyncio.get_running_loop(), bytearray(), asyncio.Event()

        def read():
            with contextlib.suppress(OSError):  # the other end is closed
                shown.extend(os.read(ours, 65536))
            news.set()

        async def until(text):
            while text not in shown:
                news.clear()
                await news.wait()

        loop.add_reader(ours, read)
        try:
            await until(b"ann")
            await score("eve", 7)
            await until(b"eve")
            await until(b"new")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
            await until(b"\x1b[?25h")  # the cursor is back
        finally:
            loop.remove_reader(ours)
            os.close(ours)
