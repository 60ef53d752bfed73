"""Many ranks in one request: of many players in a season, of one player in many seasons."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.routing import Route

from api.access import Need
from api.answers import NO_STORE, Answer, json_answer
from api.boards import Boards
from api.cursors import season_behind
from api.endpoint import Call, Endpoint, of_now, ties_in, whole_number_in, window_in
from api.ledger_reads import LedgerReads
from api.season_paths import ANY_SEASON, OfSeason, user_id_in_path
from api.seasons_api import percentile
from shared import standings
from shared.errors import InvalidRequestError
from shared.scores import MAX_RANKS, parse_user_id

DEFAULT_SEASONS: Final = 100
MAX_SEASONS: Final = 1000

_NOW: Final = (NO_STORE,)


class RanksBody(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    user_ids: list[str]


class PlayerRank(msgspec.Struct, frozen=True, rename="camel"):
    user_id: str
    rank: int
    score: int
    percentile: float


class Ranks(msgspec.Struct, frozen=True, rename="camel"):
    """Each player once, in the order asked for: `items` those on the board, `notFound` the others."""

    season_id: str
    total_players: int
    items: list[PlayerRank]
    not_found: list[str]


class SeasonRank(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    rank: int
    score: int
    percentile: float
    total_players: int


class UserRanks(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: what to send to hear of further seasons, null = that was all."""

    user_id: str
    items: list[SeasonRank]
    next_cursor: str | None


class RankLookups:
    def __init__(self, reads: LedgerReads, boards: Boards) -> None:
        self._reads = reads
        self._boards = boards
        self._decoder = msgspec.json.Decoder(RanksBody)

    def routes(self) -> list[Route]:
        return [
            OfSeason(f"{ANY_SEASON}/leaderboard/ranks", Endpoint(self.of_players, Need.READ), methods=["POST"]),
            Route("/v1/users/{uid:anything}/ranks", Endpoint(self.of_user, Need.READ), methods=["GET"]),
        ]

    async def of_players(self, call: Call) -> Answer:
        season_id = call.season_id
        body = await call.json(self._decoder)
        if not 1 <= len(body.user_ids) <= MAX_RANKS:
            raise InvalidRequestError(
                f"userIds must hold 1 to {MAX_RANKS} ids, not {len(body.user_ids)}", code="invalid_body"
            )
        user_ids = list(dict.fromkeys(map(parse_user_id, body.user_ids)))
        query = of_now(call.query())
        window, shared = window_in(query), ties_in(query)
        places = await self._boards.ranks([season_id] * len(user_ids), user_ids, window=window, shared=shared)
        found = dict(zip(user_ids, places, strict=True))
        items = [
            PlayerRank(user_id, place.rank, place.score, percentile(place.rank, place.total))
            for user_id, place in found.items()
            if place is not None
        ]
        absent: list[str] = [user_id for user_id in user_ids if found[user_id] is None]
        # Looked up a few dozen at a time: the largest is of them all the one that none of the ranks exceeds.
        total = max((place.total for place in found.values() if place is not None), default=None)
        if total is None:
            total = await self._boards.board_size(season_id, window)
        return json_answer(Ranks(season_id, total, items, absent), headers=_NOW)

    async def of_user(self, call: Call) -> Answer:
        user_id = user_id_in_path(call)
        query = of_now(call.query())
        limit = whole_number_in(query, "limit", default=DEFAULT_SEASONS, lowest=1, highest=MAX_SEASONS)
        after = season_behind(query.get("cursor"))
        window, shared = window_in(query), ties_in(query)
        season_ids, more = await self._reads.ask(lambda conn: standings.seasons_of(conn, user_id, after, limit))
        found = await self._boards.ranks(season_ids, [user_id] * len(season_ids), window=window, shared=shared)
        items = [
            SeasonRank(season_id, place.rank, place.score, percentile(place.rank, place.total), place.total)
            for season_id, place in zip(season_ids, found, strict=True)
            if place is not None
        ]
        return json_answer(UserRanks(user_id, items, more), headers=_NOW)
