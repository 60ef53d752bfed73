"""A season's board over HTTP as it changes: from its stream, or asked for every second where there is none.

Only what Python brings along: the command runs wherever the service does.
"""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from shared.backoff import backoff_seconds

_ANSWER_SECONDS: Final = 40.0
"""The stream says something every 15 s."""

_POLL_SECONDS: Final = 1.0
_POLLS: Final = 20
"""Then the stream is tried again."""

_SEASONS: Final = 1000
_AWAY: Final = frozenset({429, 500, 502, 503, 504})


class FeedError(Exception):
    """What was asked for is not to be had; the message says why."""


class AwayError(Exception):
    """The service does not answer at the moment."""


class Row(msgspec.Struct, frozen=True, rename="camel"):
    rank: int
    user_id: str
    score: int


class Board(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    items: list[Row]
    total_players: int


class View(NamedTuple):
    """Which board: so many of the best, of the last hours or days, or of all time."""

    season_id: str
    limit: int
    window: str | None


class _Refused(msgspec.Struct):
    error: str = "the service does not say why"


class _Season(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    changed_at: str | None


class _Seasons(msgspec.Struct, frozen=True):
    items: list[_Season]


class Service:
    """The service at a base URL, asked with a key where there is one. Raises FeedError, AwayError."""

    def __init__(self, base_url: str, key: str | None) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FeedError(f"the base URL must start with http:// or https://, not {base_url!r}")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._root = parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.place = base_url

    def latest_season(self) -> str:
        """The season that changed last, of the first thousand."""
        body = self._read(f"/v1/seasons?limit={_SEASONS}")
        seasons = msgspec.json.decode(body, type=_Seasons).items
        if not seasons:
            raise FeedError(f"there is no season at {self.place}: the first score makes one")
        return max(seasons, key=lambda season: season.changed_at or "").season_id

    def board(self, view: View) -> Board:
        """As it is now."""
        return msgspec.json.decode(self._read(_path(view, "top")), type=Board)

    def boards(self, view: View) -> Iterator[Board | AwayError]:
        """The board, and again whenever it may have changed, without end; while the service is away, why."""
        failures, streamed = 0, True
        while True:
            try:
                boards = self._streamed(view) if streamed else self._polled(view)
                streamed = not streamed  # whichever ends, the other has its turn
                for board in boards:
                    failures = 0
                    yield board
            except AwayError as error:
                failures += 1
                if failures > 1:
                    yield error
                    time.sleep(backoff_seconds(failures, random.random()))  # noqa: S311 - jitter

    def _streamed(self, view: View) -> Iterator[Board]:
        connection, response = self._asked(_path(view, "stream"), {"Accept": "text/event-stream"})
        try:
            event = ""
            while line := response.readline():
                name, _, value = line.rstrip(b"\r\n").partition(b": ")
                if name == b"event":
                    event = value.decode()
                elif name == b"data" and event == "top":
                    yield msgspec.json.decode(value, type=Board)
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"the stream broke: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _polled(self, view: View) -> Iterator[Board]:
        for _ in range(_POLLS):
            yield self.board(view)
            time.sleep(_POLL_SECONDS)

    def _read(self, path: str) -> bytes:
        connection, response = self._asked(path, {})
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"{self.place} broke off: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _asked(self, path: str, headers: dict[str, str]) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", f"{self._root}{path}", headers={**self._headers, **headers})
            response = connection.getresponse()
            if response.status == HTTPStatus.OK:
                return connection, response
            told = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise AwayError(f"{self.place} does not answer: {error or type(error).__name__}") from error
        connection.close()
        if response.status in _AWAY or (response.status == HTTPStatus.NOT_FOUND and "/stream?" in path):
            raise AwayError(_reason(told))
        raise FeedError(_reason(told))


def _path(view: View, last: str) -> str:
    query = {"limit": view.limit, **({"window": view.window} if view.window else {})}
    return f"/v1/seasons/{quote(view.season_id, safe='')}/leaderboard/{last}?{urlencode(query)}"


def _reason(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refused).error
    except msgspec.MsgspecError:
        return _Refused().error
