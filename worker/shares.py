"""Which share of all seasons the next batch of a lane takes while much waits. No I/O.

Two batches over the same seasons take turns: each waits until the other has committed. So batches at work at once, in
however many workers, take different shares (`shared.outbox`), where what waits is in more than one.
"""

from __future__ import annotations

from typing import Final

from worker.batch import Batch

_WHOLE_EVERY: Final = 16
"""Every so many batches one takes of all seasons, oldest first: no event waits for the turn of its share for long, and
it shows which shares have much."""


class Shares:
    def __init__(self) -> None:
        self._batches = 0
        self._rich: list[int] = []
        self._divided = False

    def candidates(self) -> list[int]:
        """The shares that the next batch may take, in the order to try them; none = it takes of all seasons."""
        self._batches += 1
        self._divided = len(self._rich) > 1 and self._batches % _WHOLE_EVERY != 0
        if not self._divided:
            return []
        turn = self._batches % len(self._rich)
        return self._rich[turn:] + self._rich[:turn]

    def took(self, batch: Batch, batch_size: int) -> None:
        """What became of that batch."""
        full = batch.events >= batch_size
        if not self._divided:
            self._rich = sorted(batch.shares) if full else []
        elif not full:
            self._rich = [share for share in self._rich if share not in batch.shares]
