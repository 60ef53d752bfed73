"""Names of keys in Redis. All keys of a season share its hash tag, so that a cluster keeps them on one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shared.scores import Rules, SeasonId
from shared.windows import BOARDS, Window

CHANGES: Final = "lb:changes"
"""The channel that tells which seasons changed: their ids, one a line."""

WAKEUPS: Final = "lb:wakeups"
"""The channel that tells workers that events were committed; its messages are empty."""


def board(season_id: SeasonId, window: Window | None = None) -> str:
    """The sorted set: member = user id, behind its tie where the first to reach a score stands higher; score = points.

    `window`: None = of all time.
    """
    return f"lb:{{{season_id}}}" + (f":{window}" if window else "")


def ties(season_id: SeasonId, window: Window | None = None) -> str:
    """The hash that says which tie stands before each player's id in the sorted set."""
    return f"{board(season_id, window)}:ties"


def meta(season_id: SeasonId) -> str:
    """The hash beside it: timeline, epoch, token and size of what the season's other keys show, and how to read it."""
    return f"lb:{{{season_id}}}:meta"


def shown(season_id: SeasonId, rules: Rules, staged: int | None = None) -> list[str]:
    """What shows a season with these rules: each board, with the hash of its ties behind it where it has one.

    `staged`: where a rebuild under this token gathers the same before it is swapped in.
    """
    suffix = "" if staged is None else f":staging:{staged}"
    windows: Sequence[Window | None] = BOARDS if rules.windows else (None,)
    names = (board, ties) if rules.tie_break == "earliest" else (board,)
    return [f"{name(season_id, window)}{suffix}" for window in windows for name in names]


def all_shown(season_id: SeasonId) -> list[str]:
    """What may show the season, whatever its rules are or were."""
    return shown(season_id, Rules(windows=True, tie_break="earliest"))
