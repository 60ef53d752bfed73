"""A season's epochs: which there were, and the boards of those that are archived."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NoReturn, TypeVar

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, TaggedAnswer, json_answer
from api.boards import Boards
from api.cursors import number_of, place_of
from api.endpoint import Call, Endpoint, of_now, user_id_in, whole_number_in
from api.epoch_answers import EpochAround, EpochRank, Epochs, EpochTop, current_epoch, ended_epoch, live_top, rank_of
from api.ledger_reads import LedgerReads
from api.season_paths import ANY_SEASON, OfSeason
from api.seasons_api import RankedPlayer
from shared import epochs, final_ranks, season_settings
from shared.epochs import Epoch
from shared.errors import (
    EpochNotFoundError,
    EpochSealingError,
    InvalidRequestError,
    NotOnBoardError,
    RedisUnavailableError,
    SeasonNotFoundError,
)
from shared.postgres import Connection
from shared.scores import (
    DEFAULT_AROUND_RANGE,
    DEFAULT_TOP_LIMIT,
    MAX_AROUND_RANGE,
    MAX_EPOCH,
    MAX_OFFSET,
    MAX_TOP_LIMIT,
    SeasonId,
)
from shared.season_settings import Season

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000

EPOCHS: Final = f"{ANY_SEASON}/epochs"
_EPOCH: Final = f"{EPOCHS}/{{epoch}}/leaderboard"

_NOW: Final = (NO_STORE,)

T = TypeVar("T")


class EpochsApi:
    def __init__(self, reads: LedgerReads, boards: Boards) -> None:
        self._reads = reads
        self._boards = boards

    def routes(self) -> list[Route]:
        """To be asked before those of boards, whose seasons' ids match anything."""
        return [
            OfSeason(EPOCHS, Endpoint(self.page, Need.READ), methods=["GET"]),
            OfSeason(f"{_EPOCH}/top", Endpoint(self.top, Need.READ), methods=["GET"]),
            OfSeason(f"{_EPOCH}/rank", Endpoint(self.rank, Need.READ), methods=["GET"]),
            OfSeason(f"{_EPOCH}/around", Endpoint(self.around, Need.READ), methods=["GET"]),
        ]

    async def page(self, call: Call) -> Answer:
        season_id, query = call.season_id, of_now(call.query())
        limit = whole_number_in(query, "limit", default=DEFAULT_PAGE, lowest=1, highest=MAX_PAGE)
        cursor = query.get("cursor")
        before = None if cursor is None else number_of(cursor)
        season, noted, ended, began_at = await self._reads.ask(partial(_listed, season_id, before, limit + 1))
        items = [ended_epoch(epoch) for epoch in ended]
        if before is None:
            (players,) = await self._boards.players([season_id])
            items.insert(0, current_epoch(season, noted, began_at, players))
        more = len(items) > limit
        items = items[:limit]
        return json_answer(Epochs(season_id, items, str(items[-1].epoch) if more else None), headers=_NOW)

    async def top(self, call: Call) -> Answer:
        season_id, epoch, query = call.season_id, _epoch_in(call), _plain_query(call)
        limit = whole_number_in(query, "limit", default=DEFAULT_TOP_LIMIT, lowest=1, highest=MAX_TOP_LIMIT)
        offset = whole_number_in(query, "offset", default=0, lowest=0, highest=MAX_OFFSET)
        cursor = query.get("cursor")
        if cursor is not None and "offset" in query:
            raise InvalidRequestError("send offset or cursor, not both", code="invalid_cursor")

        async def look_up(conn: Connection, found: Epoch) -> EpochTop:
            behind = offset if cursor is None else number_of(cursor)
            rows = await final_ranks.top(conn, season_id, epoch, behind, limit + 1)
            items = [RankedPlayer(*row) for row in rows[:limit]]
            next_cursor = str(items[-1].rank) if len(rows) > limit else None
            return EpochTop(season_id, items, found.players, next_cursor, epoch=epoch)

        found = await self._archived(season_id, epoch, look_up)
        if found is None:
            behind = None if cursor is None else place_of(cursor)
            page = await self._live(season_id, epoch, partial(self._boards.top, season_id, limit, offset, behind))
            found = live_top(season_id, epoch, page)
        return _tagged(call, found)

    async def rank(self, call: Call) -> Answer:
        season_id, epoch, query = call.season_id, _epoch_in(call), _plain_query(call)
        user_id = user_id_in(query)

        async def look_up(conn: Connection, found: Epoch) -> EpochRank:
            row = await final_ranks.find(conn, season_id, epoch, user_id)
            if row is None:
                raise _absent(season_id, epoch)
            return rank_of(season_id, epoch, user_id, (row.rank, row.score, found.players))

        found = await self._archived(season_id, epoch, look_up)
        if found is None:
            place = await self._live(season_id, epoch, partial(self._boards.rank, season_id, user_id))
            found = rank_of(season_id, epoch, user_id, place)
        return _tagged(call, found)

    async def around(self, call: Call) -> Answer:
        season_id, epoch, query = call.season_id, _epoch_in(call), _plain_query(call)
        if "score" in query:
            raise InvalidRequestError(
                "the board of an epoch is asked around a player: send userId, not score", code="invalid_query"
            )
        user_id = user_id_in(query)
        size = whole_number_in(query, "range", default=DEFAULT_AROUND_RANGE, lowest=0, highest=MAX_AROUND_RANGE)

        async def look_up(conn: Connection, _found: Epoch) -> list[RankedPlayer]:
            rows = await final_ranks.around(conn, season_id, epoch, user_id, size)
            if not rows:
                raise _absent(season_id, epoch)
            return [RankedPlayer(*row) for row in rows]

        items = await self._archived(season_id, epoch, look_up)
        if items is None:
            players = await self._live(season_id, epoch, partial(self._boards.around, season_id, user_id, size))
            items = list(map(RankedPlayer, *players))
        return _tagged(call, EpochAround(season_id, user_id, size, items, epoch=epoch))

    async def _archived(
        self, season_id: SeasonId, epoch: int, look_up: Callable[[Connection, Epoch], Awaitable[T]]
    ) -> T | None:
        """What is found in the epoch's final ranks; None where it is the current one, which has its board."""

        async def question(conn: Connection) -> T | None:
            season = await season_settings.find(conn, season_id)
            if season is None:
                raise _unknown(season_id)
            if epoch == season.epoch:
                return None
            found = await epochs.find(conn, season_id, epoch)
            if found is None or not found.archived:
                _refuse(season, epoch, found)
            if found.sealed_at is None:
                raise EpochSealingError(
                    f"epoch {epoch} of season {season_id} has ended and its final ranks are being settled; try again "
                    "shortly"
                )
            return await look_up(conn, found)

        return await self._reads.ask(question)

    async def _live(self, season_id: SeasonId, epoch: int, look_up: Callable[[], Awaitable[T]]) -> T:
        """What the board says, where it is the epoch's before and after it was asked: a reset may come between."""
        before = await self._shown_epoch(season_id)
        found = await look_up()
        if {before, await self._shown_epoch(season_id)} <= {str(epoch), None}:
            return found
        raise RedisUnavailableError(f"the board of season {season_id} does not follow a reset yet; try again shortly")

    async def _shown_epoch(self, season_id: SeasonId) -> str | None:
        """None where nothing was ever shown."""
        ((_, epoch, *_),) = await self._boards.versions([season_id])
        return epoch


async def _listed(
    season_id: SeasonId, before: int | None, limit: int, conn: Connection
) -> tuple[Season, Epoch | None, list[Epoch], dt.datetime | None]:
    """The season, what was noted of its current epoch, those before it, and when the current one began."""
    season = await season_settings.find(conn, season_id)
    if season is None:
        raise _unknown(season_id)
    ended = await epochs.page(conn, season_id, season.epoch if before is None else min(before, season.epoch), limit)
    noted = await epochs.find(conn, season_id, season.epoch)
    return season, noted, ended, await epochs.began_at(conn, season_id)


def _epoch_in(call: Call) -> int:
    text: str = call.scope["path_params"]["epoch"]
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_EPOCH)) and 1 <= int(text) <= MAX_EPOCH:
        return int(text)
    raise InvalidRequestError(f"epoch must be from 1 to {MAX_EPOCH}, not {text[:40]!r}", code="invalid_epoch")


def _plain_query(call: Call) -> dict[str, str]:
    """Final ranks are those of all time, one behind the other: what would ask for others is refused."""
    query = of_now(call.query())
    for name in ("window", "ties"):
        if name in query:
            raise InvalidRequestError(f"the board of an epoch has no {name}; leave it out", code="invalid_query")
    return query


def _tagged(call: Call, found: msgspec.Struct) -> Answer:
    """Never to be kept unasked: a player may be erased from what is settled otherwise."""
    return TaggedAnswer(msgspec.json.encode(found)).to(call.header(b"if-none-match"))


def _refuse(season: Season, epoch: int, found: Epoch | None) -> NoReturn:
    if epoch > season.epoch:
        told = f"season {season.season_id} is in epoch {season.epoch}; there is no epoch {epoch} yet"
    elif found is not None and found.expired_at is not None:
        told = f"epoch {epoch} of season {season.season_id} was archived, and is past ARCHIVE_RETENTION_DAYS"
    else:
        told = (
            f"epoch {epoch} of season {season.season_id} has ended and was not archived: DELETE with archive=true "
            "keeps the one that it ends"
        )
    raise EpochNotFoundError(told)


def _absent(season_id: SeasonId, epoch: int) -> NotOnBoardError:
    return NotOnBoardError(f"this player is not on the board of epoch {epoch} of season {season_id}")


def _unknown(season_id: SeasonId) -> SeasonNotFoundError:
    return SeasonNotFoundError(f"there is no season {season_id}: PUT makes one, and so does a first score")
