"""What is answered about boards of a moment, and about movement since one."""

from __future__ import annotations

import msgspec

from api.seasons_api import Moment


class PlayerThen(msgspec.Struct, frozen=True, rename="camel"):
    """`previousRank`: at the moment of movementSince, null = not on the board then. `movement`: how many ranks higher
    the player stands since."""

    rank: int
    user_id: str
    score: int
    previous_rank: int | msgspec.UnsetType | None = msgspec.UNSET
    movement: int | msgspec.UnsetType | None = msgspec.UNSET


class TopThen(msgspec.Struct, frozen=True, rename="camel"):
    """`nextCursor`: null with asOf, whose pages are asked for by offset."""

    season_id: str
    items: list[PlayerThen]
    total_players: int
    next_cursor: str | None
    as_of: Moment | msgspec.UnsetType = msgspec.UNSET


class RankThen(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    rank: int
    score: int
    percentile: float
    total_players: int
    as_of: Moment | msgspec.UnsetType = msgspec.UNSET
    previous_rank: int | msgspec.UnsetType | None = msgspec.UNSET
    movement: int | msgspec.UnsetType | None = msgspec.UNSET


class AroundThen(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    user_id: str
    range: int
    items: list[PlayerThen]
    as_of: Moment | msgspec.UnsetType = msgspec.UNSET


class AroundScoreThen(msgspec.Struct, frozen=True, rename="camel"):
    season_id: str
    score: int
    rank: int
    range: int
    items: list[PlayerThen]
    as_of: Moment | msgspec.UnsetType = msgspec.UNSET
