"""A client of a season's stream that hears everything that is said there, comments too."""

from __future__ import annotations

import asyncio
import contextlib
import json

from conftest import client_of, serving

SEASON = "/v1/seasons/s"
BOARD = f"{SEASON}/leaderboard"
STREAM = f"{BOARD}/stream"


class Listener:
    """`response` is the answer's head; `last_id` the id of the last event."""

    def __init__(self, response):
        self.response = response
        self.last_id = None
        self.retry_ms = None
        self._lines = response.aiter_lines()

    async def message(self):
        """The next (event, data as text), (None, comment), or None at the end of the stream."""
        event = data = None
        async for line in self._lines:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line and not field:
                return None, value
            if field == "retry":
                self.retry_ms = int(value)
            elif field == "id":
                self.last_id = value
            elif field == "event":
                event = value
            elif field == "data":
                data = value
            elif not line and data is not None:
                return event, data
        return None

    async def event(self):
        """The next event's name and decoded data; comments are passed by."""
        while (message := await self.message())[0] is None:
            pass
        return message[0], json.loads(message[1])

    async def scores(self):
        """The next event, a top: {player: score}."""
        name, top = await self.event()
        assert name == "top"
        return {item["userId"]: item["score"] for item in top["items"]}


@contextlib.asynccontextmanager
async def listening(http, path, **headers):
    """`headers` with underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.stream("GET", path, headers=named) as response:
        yield Listener(response)


@contextlib.asynccontextmanager
async def client_of_running(app):
    """A client of an API that hears what changes."""
    async with serving(app) as base_url, client_of(base_url) as client:
        while not app._top_cache._open:
            await asyncio.sleep(0)
        yield client


def streams_of(app):
    (route,) = (route for route in app.app.routes if route.path.endswith("/leaderboard/stream"))
    return route.endpoint.handle.__self__._streams


async def all_left(streams):
    while len(streams):
        await asyncio.sleep(0)
