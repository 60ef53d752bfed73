"""Who moved between one board and the next. No clock, no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cli.board_feed import Row


class Moved(NamedTuple):
    """`places`: won, or below 0 lost, while the mark lasts; `entered`: new on the board; `gain`: since the last one."""

    places: int
    entered: bool
    gain: int


class _Mark(NamedTuple):
    """`came_from`: the rank before the player's first move within the mark's time, None = not on the board."""

    came_from: int | None
    at: float


class Movements:
    def __init__(self, lasts_seconds: float) -> None:
        self._lasts_seconds = lasts_seconds
        self._before: dict[str, Row] | None = None
        self._marks: dict[str, _Mark] = {}

    def update(self, rows: Sequence[Row], now: float) -> dict[str, Moved]:
        """What to say of each player of the newest board; `now` in seconds."""
        marks: dict[str, _Mark] = {}
        told: dict[str, Moved] = {}
        for row in rows:
            was = None if self._before is None else self._before.get(row.user_id)
            mark = self._marks.get(row.user_id)
            if mark is not None and now - mark.at > self._lasts_seconds:
                mark = None
            if self._before is not None and was is None:
                mark = _Mark(None, now)
            elif was is not None and was.rank != row.rank:
                mark = _Mark(was.rank if mark is None else mark.came_from, now)
            if mark is not None:
                marks[row.user_id] = mark
            entered = mark is not None and mark.came_from is None
            came_from = row.rank if mark is None or mark.came_from is None else mark.came_from
            told[row.user_id] = Moved(came_from - row.rank, entered, 0 if was is None else row.score - was.score)
        self._before = {row.user_id: row for row in rows}
        self._marks = marks
        return told
