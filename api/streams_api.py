"""The path of a season's stream: what is refused before it begins, what it begins with, and its end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from starlette.routing import Route
from starlette.types import Message, Scope, Send

from api import open_answers
from api.access import Need
from api.answers import NO_STORE, Answer
from api.endpoint import Call, Endpoint, of_now, ties_in, user_id_in, whole_number_in, window_in
from api.season_paths import ANY_SEASON, OfSeason
from api.stream import Board, Stream, View
from api.stream_events import CONTENT_TYPE, retry, seen_by
from api.stream_states import States
from api.streams import Streams
from shared.scores import DEFAULT_TOP_LIMIT, MAX_TOP_LIMIT

_HEADERS: Final = (NO_STORE, (b"x-accel-buffering", b"no"))  # proxies are not to wait for more

_RETRY_MS: Final = (1000, 3000)
"""A client waits for some time between these: thousands that lost their process do not come back at once."""


class StreamsApi:
    def __init__(self, streams: Streams, states: States, clock: Callable[[], float]) -> None:
        self._streams = streams
        self._states = states
        self._clock = clock

    def routes(self) -> list[Route]:
        return [OfSeason(f"{ANY_SEASON}/leaderboard/stream", Endpoint(self.stream, Need.READ), methods=["GET"])]

    async def stream(self, call: Call) -> Answer:
        season_id, query = call.season_id, of_now(call.query())
        limit = whole_number_in(query, "limit", default=DEFAULT_TOP_LIMIT, lowest=1, highest=MAX_TOP_LIMIT)
        user_id = user_id_in(query) if "userId" in query else None
        view = View(Board(window_in(query), ties_in(query)), limit, user_id)
        streams, clock = self._streams, self._clock
        streams.require_room()
        hints, as_of = streams.hints, clock()
        top, rank = await self._states.first(season_id, view)
        streams.require_room()  # nothing is awaited from here until it is counted
        seen = seen_by(call.header(b"last-event-id"))

        async def go_on(scope: Scope, send: Send, start: Message) -> None:
            answer = open_answers.hold(scope)
            stream = Stream(view, answer, seen, as_of, call.key)
            answer.caught_up = lambda: stream.catch_up(clock())
            with streams.joined(season_id, stream, hints):
                await send(start)
                stream.say(retry(random.randint(*_RETRY_MS)), clock())  # noqa: S311 - jitter
                stream.show(top, rank, clock())
                await answer.over
            await answer.finish(send)

        return Answer(200, b"", _HEADERS, CONTENT_TYPE, go_on)
