"""How long who joins a queue now will wait, judged by how long its flushes take. No I/O; seconds of one clock.

Admitting what can't be done in time would do the work and let the client give up all the same.
"""

from __future__ import annotations

from typing import Final

_WEIGHT: Final = 0.2
"""Of the newest flush in the average: some ten flushes decide."""


class Pace:
    """Of a queue whose flushes take up to `max_batch` items, `concurrency` at a time."""

    def __init__(self, *, max_batch: int, concurrency: int) -> None:
        self._concurrency = concurrency
        self._at_once = max_batch * concurrency
        self._under_way: dict[int, float] = {}
        self._usual_seconds = 0.0
        self._number = 0

    def started(self, now: float) -> int:
        """A flush begins; returns what `finished` must be told."""
        self._number += 1
        self._under_way[self._number] = now
        return self._number

    def finished(self, number: int, now: float) -> None:
        self._usual_seconds += _WEIGHT * (now - self._under_way.pop(number) - self._usual_seconds)

    def wait_seconds(self, waiting: int, now: float) -> float:
        """Until the flush of an item begins that joins `waiting` others.

        Where even the newest flush under way takes longer than usual, all hang: it is expected to go on for as long as
        it has taken already. An older one that hangs alone leaves the others' places to be taken.
        """
        if len(self._under_way) < self._concurrency:
            return 0.0
        hanging = now - next(reversed(self._under_way.values()))
        return max(self._usual_seconds, hanging) + self._usual_seconds * (waiting // self._at_once)
