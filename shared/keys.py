"""Names of keys in Redis. All keys of a season share its hash tag, so that a cluster keeps them on one node."""

from __future__ import annotations

from typing import Final

from shared.scores import SeasonId

CHANGES: Final = "lb:changes"
"""The channel that tells which seasons changed: their ids, one a line."""

WAKEUPS: Final = "lb:wakeups"
"""The channel that tells workers that events were committed; its messages are empty."""


def board(season_id: SeasonId) -> str:
    """The sorted set: member = user id, score = points."""
    return f"lb:{{{season_id}}}"


def meta(season_id: SeasonId) -> str:
    """The hash beside it: timeline, epoch, token and count of what the sorted set shows, and its order."""
    return f"lb:{{{season_id}}}:meta"


def staging(season_id: SeasonId, token: int) -> str:
    """Where a rebuild under this token gathers the new board before it is swapped in."""
    return f"lb:{{{season_id}}}:staging:{token}"
