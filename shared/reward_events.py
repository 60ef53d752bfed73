"""What a receiver of webhooks is told when an epoch is over and its final ranks are settled. No I/O."""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

import msgspec

SEASON_CLOSED: Final = "season.closed"


class Place(msgspec.Struct, frozen=True, rename="camel"):
    rank: int
    user_id: str
    score: int


class Closed(msgspec.Struct, frozen=True, rename="camel"):
    """`reason`: see shared.epochs. `began_at`: null = from before that was noted. `ranks`: the best, 1 first, of
    `total_players`."""

    season_id: str
    epoch: int
    reason: str
    began_at: dt.datetime | None
    ended_at: dt.datetime
    total_players: int
    ranks: list[Place]


class SeasonClosed(msgspec.Struct, frozen=True):
    """`timestamp`: when the epoch ended."""

    type: Literal["season.closed"]
    timestamp: dt.datetime
    data: Closed


def body_of(closed: Closed) -> bytes:
    """The event as it is sent."""
    return msgspec.json.encode(SeasonClosed(SEASON_CLOSED, closed.ended_at, closed))


def without_player(body: bytes, user_id: str) -> bytes:
    """The event as it was, but for that player; the others' ranks stay."""
    event = msgspec.json.decode(body, type=SeasonClosed)
    kept = [place for place in event.data.ranks if place.user_id != user_id]
    return body if len(kept) == len(event.data.ranks) else body_of(msgspec.structs.replace(event.data, ranks=kept))
