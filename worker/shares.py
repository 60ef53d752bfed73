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
    """Of one lane."""

    def __init__(self) -> None:
        self._batches = 0
        self._rich: list[int] = []
        self._asked: list[int] = []

    def candidates(self) -> list[int]:
        """The shares that the next batch may take, in the order to try them; none = it takes of all seasons.

        After a batch that `took` was not told of, which failed, the next one is of all seasons.
        """
        self._batches += 1
        rich, self._rich, self._asked = self._rich, [], []
        if len(rich) > 1 and self._batches % _WHOLE_EVERY:
            turn = self._batches % len(rich)
            self._asked = rich[turn:] + rich[:turn]
        return self._asked

    def took(self, batch: Batch, batch_size: int) -> None:
        """What became of that batch."""
        full = batch.events >= batch_size
        if not self._asked:
            self._rich = sorted(batch.shares) if full else []
        else:
            self._rich = [share for share in sorted(self._asked) if full or share not in batch.shares]
