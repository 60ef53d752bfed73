"""What the service answers, as docs/api.md has it. Fields that a later version of the service adds are passed by."""

from __future__ import annotations

import datetime as dt
from typing import Any, Generic, Literal, TypeVar

import msgspec

Aggregation = Literal["sum", "best", "latest"]
Order = Literal["desc", "asc"]
TieBreak = Literal["member", "earliest"]
Ties = Literal["ordinal", "competition"]
Window = Literal["24h", "3d", "7d"]

T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    pass


class Season(Answer, frozen=True):
    """`players`: on the board now. `changed_at`: when the board was last changed, None = never."""

    season_id: str
    state: Literal["scheduled", "open", "closed"]
    epoch: int
    players: int
    aggregation: Aggregation
    order: Order
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    closed_at: dt.datetime | None
    created_at: dt.datetime
    changed_at: dt.datetime | None
    metadata: dict[str, Any] | None
    windows: bool = False
    tie_break: TieBreak = "member"


class Accepted(Answer, frozen=True):
    """The score is durable. `replayed`: it was already, under the same key, and counts once."""

    season_id: str
    user_id: str
    replayed: bool = False


class Result(Answer, frozen=True):
    """What became of one score of many; `code` and `error` say why it was refused."""

    status: Literal["queued", "replayed", "refused"]
    code: str | None = None
    error: str | None = None


class Player(Answer, frozen=True):
    user_id: str
    rank: int
    score: int


class PlayerRank(Player, frozen=True):
    """`percentile`: of all players so many stand at this rank or behind it, in per cent."""

    percentile: float


class Rank(PlayerRank, frozen=True):
    season_id: str
    total_players: int


class SeasonRank(Answer, frozen=True):
    season_id: str
    rank: int
    score: int
    percentile: float
    total_players: int


class Ranks(Answer, frozen=True):
    """Each player once, in the order asked for: `items` those on the board, `not_found` the others."""

    season_id: str
    total_players: int
    items: tuple[PlayerRank, ...]
    not_found: tuple[str, ...]


class Top(Answer, frozen=True):
    """`next_cursor`: where the players behind these begin, None = there are none."""

    season_id: str
    items: tuple[Player, ...]
    total_players: int
    next_cursor: str | None


class Around(Answer, frozen=True):
    season_id: str
    user_id: str
    items: tuple[Player, ...]


class AroundScore(Answer, frozen=True):
    """`rank`: what a player who reaches the score now would have, behind all that are as good."""

    season_id: str
    score: int
    rank: int
    items: tuple[Player, ...]


class Page(Answer, Generic[T], frozen=True):
    """`next_cursor`: what to send to get the next page, None = this is the last one."""

    items: tuple[T, ...]
    next_cursor: str | None


class Told(Answer, frozen=True):
    """An error, and of a batch its results; the defaults stand for what somebody else than the service answered."""

    error: str = "not an answer of the service"
    code: str = "not_understood"
    request_id: str | None = None
    results: tuple[Result, ...] = ()
