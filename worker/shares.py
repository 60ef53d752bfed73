"""Which share of all seasons the next batch of a lane takes while much waits. No I/O.

Two batches over the same seasons take turns: each waits until the other has committed. So batches at work at once, in
however many workers, take different shares (`shared.outbox`), where the backlog has seasons in more than one.
"""

from __future__ import annotations

from typing import Final

from shared.outbox import SHARES
from worker.batch import Batch

_WHOLE_EVERY: Final = 16
"""Every so many batches one takes of all seasons, oldest first: no event waits for the turn of its share for long."""

_POOR_FOR: Final = 64
"""For so many batches a share in which too little was found is left out: to find that, all that waits was read."""


class Shares:
    def __init__(self) -> None:
        self._batches = 0
        self._worth_it = False
        self._rich_from = [0] * SHARES

    def candidates(self) -> list[int]:
        """The shares that the next batch may take, in the order to try them; none = it takes of all seasons."""
        self._batches += 1
        if not self._worth_it or self._batches % _WHOLE_EVERY == 0:
            return []
        turns = ((self._batches + n) % SHARES for n in range(SHARES))
        rich = [share for share in turns if self._rich_from[share] <= self._batches]
        return rich if len(rich) > 1 else []

    def took(self, batch: Batch, batch_size: int) -> None:
        """What became of that batch. Where no share was free, more batches are at work than there are shares."""
        full = batch.events >= batch_size
        if batch.share is None:
            self._worth_it = full and batch.seasons >= SHARES
        elif not full:
            self._rich_from[batch.share] = self._batches + _POOR_FOR
