"""Boards as of a moment (`asOf`), and how far players have moved since one (`movementSince`): top, rank and around with
one of these parameters, or both. Asked of the ledger; without them, nothing of this is reached.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import msgspec

from api.answers import NO_STORE, Answer, Header, TaggedAnswer, json_answer
from api.boards import Boards
from api.cursors import cursor_behind, place_of
from api.endpoint import Call, score_in, ties_in, user_id_in, whole_number_in
from api.ledger_reads import LedgerReads
from api.past_answers import AroundScoreThen, AroundThen, PlayerThen, RankThen, TopThen
from api.seasons_api import Moment, percentile
from api.waiting import waits
from shared import past, past_boards
from shared.errors import InvalidRequestError, NotOnBoardError
from shared.past import Then
from shared.past_boards import PastEntry, PastPage, PastPlace
from shared.postgres import Connection
from shared.scores import (
    DEFAULT_AROUND_RANGE,
    DEFAULT_TOP_LIMIT,
    MAX_AROUND_RANGE,
    MAX_OFFSET,
    MAX_TOP_LIMIT,
    SeasonId,
    UserId,
    parse_moment,
)

MAX_MOVED: Final = 100
"""Players whose movement one request may ask for."""

TOO_FAR: Final = (
    "too many scores came between the last snapshot and that moment, or too many ask for such boards at once; "
    "snapshots that are late are made once there is time for them: ask again then (docs/runbook.md, Boards of a moment "
    "come late)"
)
"""Why a board of a moment is not made in time, and what helps."""

# What was does not change, but that who is erased is gone from it.
KEPT: Final[Header] = (b"cache-control", b"max-age=60")

_INVALID: Final = "invalid_moment"

T = TypeVar("T")


class _Asked(NamedTuple):
    """`as_of` None: the board as it is now. `since` None: nothing about movement."""

    season_id: SeasonId
    as_of: dt.datetime | None
    since: dt.datetime | None
    shared: bool

    @property
    def told(self) -> dt.datetime | msgspec.UnsetType:
        return msgspec.UNSET if self.as_of is None else self.as_of

    @property
    def headers(self) -> Sequence[Header]:
        return (NO_STORE,) if self.as_of is None else (KEPT,)


class TimeTravel:
    def __init__(self, reads: LedgerReads, boards: Boards) -> None:
        self._reads = reads
        self._boards = boards

    async def top(self, call: Call, query: dict[str, str]) -> Answer:
        asked = _asked_in(call, query)
        limit = whole_number_in(query, "limit", DEFAULT_TOP_LIMIT, 1, MAX_TOP_LIMIT)
        offset = whole_number_in(query, "offset", 0, 0, MAX_OFFSET)
        _limit_moved(asked, limit, "limit")
        season_id, moment, shared = asked.season_id, asked.as_of, asked.shared
        if "cursor" in query and ("offset" in query or moment is not None):
            raise InvalidRequestError("send offset or cursor, not both; asOf goes with offset", code="invalid_cursor")
        cursor = None
        if moment is None:
            behind = place_of(query["cursor"]) if "cursor" in query else None
            players, total, last = await self._boards.top(season_id, limit, offset, behind, shared=shared)
            page = PastPage(list(map(PastEntry, *players)), total)
            cursor = None if last is None else cursor_behind(last)
        else:
            found = await self._at(asked, moment, partial(past_boards.top, limit=limit, offset=offset, shared=shared))
            page = found or PastPage([], 0)
        items = await self._moved(asked, page.entries)
        body = msgspec.json.encode(TopThen(season_id, items, page.total, cursor, asked.told))
        tagged = TaggedAnswer(body) if moment is None else TaggedAnswer(body, cache=KEPT)
        return tagged.to(call.header(b"if-none-match"))

    async def rank(self, call: Call, query: dict[str, str]) -> Answer:
        asked, user_id = _asked_in(call, query), user_id_in(query)
        season_id, moment, shared = asked.season_id, asked.as_of, asked.shared
        if moment is None:
            place = PastPlace(*await self._boards.rank(season_id, user_id, shared=shared))
        else:
            found = await self._at(asked, moment, partial(past_boards.ranks, user_ids=[user_id], shared=shared))
            if not found:
                raise _absent(asked)
            place = found[user_id]
        (item,) = await self._moved(asked, [PastEntry(place.rank, user_id, place.score)])
        of_all = percentile(place.rank, place.total)
        moved = item.previous_rank, item.movement
        answer = RankThen(season_id, user_id, place.rank, place.score, of_all, place.total, asked.told, *moved)
        return json_answer(answer, headers=asked.headers)

    async def around(self, call: Call, query: dict[str, str]) -> Answer:
        asked = _asked_in(call, query)
        size = whole_number_in(query, "range", DEFAULT_AROUND_RANGE, 0, MAX_AROUND_RANGE)
        _limit_moved(asked, 2 * size + 1, "range")
        if "score" not in query:
            return await self._around_player(asked, user_id_in(query), size)
        if "userId" in query:
            raise InvalidRequestError("send userId or score, not both", code="invalid_query")
        return await self._around_score(asked, score_in(query), size)

    async def _around_player(self, asked: _Asked, user_id: UserId, size: int) -> Answer:
        season_id, moment, shared = asked.season_id, asked.as_of, asked.shared
        if moment is None:
            players = await self._boards.around(season_id, user_id, size, shared=shared)
            entries = list(map(PastEntry, *players))
        else:
            question = partial(past_boards.around, user_id=user_id, size=size, shared=shared)
            entries = await self._at(asked, moment, question) or []
            if not entries:
                raise _absent(asked)
        items = await self._moved(asked, entries)
        return json_answer(AroundThen(season_id, user_id, size, items, asked.told), headers=asked.headers)

    async def _around_score(self, asked: _Asked, score: int, size: int) -> Answer:
        season_id, moment, shared = asked.season_id, asked.as_of, asked.shared
        if moment is None:
            players, rank = await self._boards.around_score(season_id, score, size, shared=shared)
            entries = list(map(PastEntry, *players))
        else:
            question = partial(past_boards.around_score, score=score, size=size, shared=shared)
            entries, rank = await self._at(asked, moment, question) or ([], 1)
        items = await self._moved(asked, entries)
        return json_answer(AroundScoreThen(season_id, score, rank, size, items, asked.told), headers=asked.headers)

    async def _moved(self, asked: _Asked, entries: Sequence[PastEntry]) -> list[PlayerThen]:
        """The entries, with their players' movement where that was asked for."""
        if asked.since is None:
            return [PlayerThen(*entry) for entry in entries]
        user_ids = [UserId(entry.user_id) for entry in entries]
        question = partial(past_boards.ranks, user_ids=user_ids, shared=asked.shared)
        before = await self._at(asked, asked.since, question) or {}
        return [_moved_since(entry, before.get(UserId(entry.user_id))) for entry in entries]

    async def _at(
        self, asked: _Asked, moment: dt.datetime, question: Callable[[Connection, Then], Awaitable[T]]
    ) -> T | None:
        """What is answered of the season at that moment; None where there was none."""

        async def read(conn: Connection) -> T | None:
            async with past.reading(conn, moment):
                then = await past.at(conn, asked.season_id, moment)
                return None if then is None else await question(conn, then)

        return await self._reads.ask(read)


def _moved_since(entry: PastEntry, before: PastPlace | None) -> PlayerThen:
    if before is None:
        return PlayerThen(*entry, previous_rank=None, movement=None)
    return PlayerThen(*entry, previous_rank=before.rank, movement=before.rank - entry.rank)


def _absent(asked: _Asked) -> NotOnBoardError:
    return NotOnBoardError(f"this player was not on the board of season {asked.season_id} at that moment")


def _asked_in(call: Call, query: dict[str, str]) -> _Asked:
    if waits(query):
        raise InvalidRequestError("after and wait go with the board of now only, without movement", code="invalid_wait")
    if "window" in query:
        raise InvalidRequestError(
            "asOf and movementSince go with the board of all time only: leave window out", code="invalid_window"
        )
    return _Asked(call.season_id, moment_in(query, "asOf"), moment_in(query, "movementSince"), ties_in(query))


def moment_in(query: dict[str, str], name: str) -> dt.datetime | None:
    """The moment from the query, in UTC, None = not asked for; InvalidRequestError when it is none."""
    text = query.get(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text, Moment)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(
            f"{name} must be a moment as 2026-03-01T12:00:00Z or 2026-03-01T13:00:00%2B01:00, not {text[:40]!r}",
            code=_INVALID,
        ) from error
    return parse_moment(moment, name, _INVALID)


def _limit_moved(asked: _Asked, players: int, name: str) -> None:
    if asked.since is not None and players > MAX_MOVED:
        raise InvalidRequestError(
            f"with movementSince a request is for {MAX_MOVED} players at most, not {players}", code=f"invalid_{name}"
        )
