"""A client of the service for game back ends; docs/api.md says what is asked and answered. This file can be copied.

Whatever is asked is asked again where its trouble may pass: no answer, 502, 503, 504. A score has a key, with which it
counts once. All else has the same effect again, but for a reset, which takes along what came since.
"""

from __future__ import annotations

import random
from asyncio import sleep
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote
from uuid import uuid4

import httpx2
from msgspec import DecodeError, Struct, convert, field, json

Aggregation = Literal["sum", "best", "latest"]
Order = Literal["desc", "asc"]
TieBreak = Literal["member", "earliest"]
Ties = Literal["ordinal", "competition"]
Window = Literal["24h", "3d", "7d"]
T = TypeVar("T")
BATCH_SCORES = 5000


class LeaderboardError(Exception):  # no answer: its status is None, its code no_answer; somebody else's: not_understood
    def __init__(self, status: int | None, code: str, message: str, request_id: str | None = None) -> None:
        super().__init__(f"{message} ({code}, request {request_id})")
        self.status, self.code, self.message, self.request_id = status, code, message, request_id


class Rules(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):  # left out: as by default
    aggregation: Aggregation = "sum"
    order: Order = "desc"
    windows: bool = False
    tie_break: TieBreak = "member"
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    resets: dict[str, Any] | None = None  # {"cron": "0 0 * * 1", "timeZone": "Europe/Berlin", "archive": True}
    rewards: dict[str, Any] | None = None  # {"url": "https://…", "top": 100}


class Season(Rules, frozen=True, kw_only=True):
    season_id: str
    state: Literal["scheduled", "open", "closed"]
    epoch: int
    players: int
    closed_at: datetime | None
    created_at: datetime
    changed_at: datetime | None
    next_reset: datetime | None = None
    previous_reset: datetime | None = None


class Player(Struct, frozen=True, rename="camel", repr_omit_defaults=True):  # 0 and "": this read does not tell it
    rank: int = 0
    score: int = 0
    user_id: str = ""
    season_id: str = ""
    percentile: float = 0
    total_players: int = 0
    pending: bool = False  # the score that the read was to wait for is still to come


class Page(Struct, Generic[T], frozen=True, rename="camel", repr_omit_defaults=True):
    items: tuple[T, ...] = ()
    next_cursor: str | None = None  # of top, seasons, events, ranks_of: where those behind these begin, None = nowhere
    total_players: int = 0  # of top and ranks
    rank: int = 0  # of around_score: where the score would stand, behind all that are as good
    pending: bool = False  # as of a player


class Stored(Struct, frozen=True, rename="camel", repr_omit_defaults=True):  # event_id: the service's, not the key
    event_id: str
    queued: bool = True  # False: it is on the board, and the following is told, None = the player is not there
    score: int | None = None
    rank: int | None = None
    previous_rank: int | None = None  # before the score


class Event(Struct, frozen=True, kw_only=True, rename="camel", repr_omit_defaults=True):
    season_id: str
    event_id: str
    user_id: str | None
    type: Literal["score", "void", "hide", "unhide", "erase"]
    delta: int | None = None
    score: int | None = None
    target: str | None = None  # of a void: the event_id of what it takes away
    epoch: int | None
    created_at: datetime
    occurred_at: datetime | None
    state: Literal["pending", "done", "failed", "discarded", "voided"]
    effect: Literal["counted", "superseded", "ended", "voided", "discarded"] | None
    reason: str | None = None
    processed_at: datetime | None = None


class Result(Struct, frozen=True, rename="camel", repr_omit_defaults=True):
    status: Literal["queued", "replayed", "refused"]  # replayed: it was stored before, under the same key
    event_id: str | None = None
    code: str | None = None
    error: str | None = None


class Score(Struct, frozen=True):
    user_id: str
    points: int  # to add, or the score that was reached
    key: str = field(default_factory=lambda: uuid4().hex)  # sent again with it, the score counts once
    occurred_at: datetime | None = None

    def body(self, kind: Literal["delta", "score"]) -> dict[str, Any]:
        return {"userId": self.user_id, kind: self.points, "eventId": self.key, "occurredAt": self.occurred_at}


class Sent(TypedDict, total=False):
    key: str  # give one, of match and player say, where you will send the score again after an error
    occurred_at: datetime | None


class Board(TypedDict, total=False):
    ties: Ties | None  # competition: equal scores share a rank
    window: Window | None


class View(Board, total=False):
    after: str  # the event_id of a score that is to be on the board before it is read
    wait: int  # for that, milliseconds, 2000 at most


class Leaderboard(AbstractAsyncContextManager["Leaderboard"]):
    """One for the whole process. Every method raises LeaderboardError; `attempts`: how often a request is sent."""

    def __init__(self, base_url: str, *, api_key: str = "", timeout_seconds: float = 5, attempts: int = 5) -> None:
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {api_key}"} if api_key else {})}
        limits = httpx2.Limits(max_connections=100, keepalive_expiry=4)  # the service closes what is silent for 5 s
        self._http = httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=timeout_seconds, limits=limits)
        self._attempts = attempts

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def put_season(self, season_id: str, rules: Rules | None = None) -> Season:
        return await self._ask(Season, "PUT", _path("seasons", season_id), rules or Rules())

    async def season(self, season_id: str) -> Season:
        return await self._ask(Season, "GET", _path("seasons", season_id))

    async def seasons(self, *, limit: int = 100, cursor: str = "") -> Page[Season]:
        return await self._ask(Page[Season], "GET", "/v1/seasons", limit=limit, cursor=cursor)

    async def close_season(self, season_id: str) -> Season:
        return await self._ask(Season, "POST", _path("seasons", season_id, "/close"))

    async def delete_season(self, season_id: str, *, archive: bool = False) -> None:
        await self._ask(dict, "DELETE", _path("seasons", season_id), archive="true" if archive else "")

    async def add(self, season_id: str, user_id: str, delta: int, wait: int = 0, **sent: Unpack[Sent]) -> Stored:
        body = Score(user_id, delta, **sent).body("delta")  # wait: until it is on the board, milliseconds, 2000 at most
        return await self._ask(Stored, "POST", _path("seasons", season_id, "/scores"), body, wait=wait or None)

    async def submit(self, season_id: str, user_id: str, score: int, wait: int = 0, **sent: Unpack[Sent]) -> Stored:
        body = Score(user_id, score, **sent).body("score")
        return await self._ask(Stored, "POST", _path("seasons", season_id, "/scores"), body, wait=wait or None)

    async def add_many(self, season_id: str, scores: list[Score]) -> list[Result]:
        return await self._store(season_id, [score.body("delta") for score in scores])

    async def submit_many(self, season_id: str, scores: list[Score]) -> list[Result]:
        return await self._store(season_id, [score.body("score") for score in scores])

    async def event(self, season_id: str, event_id: str) -> Event:
        return await self._ask(Event, "GET", _path("seasons", season_id, f"/events/{event_id}"))

    async def events(self, season_id: str, user_id: str, *, limit: int = 50, cursor: str = "") -> Page[Event]:
        path = _path("seasons", season_id, f"/users/{_quoted(user_id)}/events")
        return await self._ask(Page[Event], "GET", path, limit=limit, cursor=cursor)

    async def top(self, season_id: str, *, limit: int = 10, cursor: str = "", **view: Unpack[View]) -> Page[Player]:
        return await self._read(Page[Player], season_id, "top", limit=limit, cursor=cursor, **view)

    async def rank(self, season_id: str, user_id: str, **view: Unpack[View]) -> Player | None:
        found = await self._read(Player, season_id, "rank", userId=user_id, **view)
        return found if found.rank else None

    async def around(self, season_id: str, user_id: str, reach: int = 5, **view: Unpack[View]) -> Page[Player] | None:
        found = await self._read(Page[Player], season_id, "around", userId=user_id, range=reach, **view)
        return found if found.items else None

    async def around_score(self, season_id: str, score: int, reach: int = 5, **view: Unpack[View]) -> Page[Player]:
        return await self._read(Page[Player], season_id, "around", score=score, range=reach, **view)

    async def ranks(self, season_id: str, user_ids: list[str], **view: Unpack[Board]) -> Page[Player]:
        body = {"userIds": user_ids}
        return await self._ask(Page[Player], "POST", _path("seasons", season_id, "/leaderboard/ranks"), body, **view)

    async def ranks_of(self, user_id: str, *, cursor: str = "", **view: Unpack[Board]) -> Page[Player]:
        return await self._ask(Page[Player], "GET", _path("users", user_id, "/ranks"), cursor=cursor, **view)

    async def _store(self, season_id: str, bodies: list[dict[str, Any]]) -> list[Result]:
        results: list[Result] = []
        for start in range(0, len(bodies), BATCH_SCORES):
            batch = bodies[start : start + BATCH_SCORES]
            told = await self._ask(dict[str, Any], "POST", _path("seasons", season_id, "/scores/batch"), batch)
            results += convert(told["results"], list[Result])
        return results

    async def _read(self, kind: type[T], season_id: str, read: str, **query: Any) -> T:
        return await self._ask(kind, "GET", _path("seasons", season_id, f"/leaderboard/{read}"), **query)

    async def _ask(self, kind: type[T], method: str, path: str, body: Any = None, **query: Any) -> T:
        asked = {name: value for name, value in query.items() if value not in {None, ""}}
        failures = 0
        while True:
            failures, pause = failures + 1, random.uniform(0, min(10, 0.1 * 2 ** min(failures, 30)))  # noqa: S311 - jitter
            try:
                response = await self._http.request(method, path, params=asked, content=body and json.encode(body))
                if failures >= self._attempts or response.status_code not in {502, 503, 504}:
                    return _answer(response, kind)
                told = response.headers.get("retry-after", "")
                pause = float(told) if told.isdecimal() else pause
            except httpx2.RequestError as error:
                if failures >= self._attempts:
                    raise LeaderboardError(None, "no_answer", f"{method} {path}: {error!r}") from error
            await sleep(pause)


def _answer(response: httpx2.Response, kind: type[T]) -> T:
    try:
        told = json.decode(response.content, type=dict[str, Any])
        if response.is_success or told["code"] in {"not_on_board", "batch_refused"}:  # a batch has its results even so
            return convert(told, kind)
        code, message = told["code"], told["error"]
    except (DecodeError, KeyError) as error:
        raise LeaderboardError(response.status_code, "not_understood", str(error)) from error
    raise LeaderboardError(response.status_code, code, message, told.get("requestId"))


def _path(kind: str, name: str, rest: str = "") -> str:
    return f"/v1/{kind}/{_quoted(name)}{rest}"


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")  # "." alone would make another path of it
