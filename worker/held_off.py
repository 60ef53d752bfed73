"""Which events the next claims pass by, because so many of the oldest can't be applied yet. No I/O.

Erasures wait for the sealing of an epoch, or are done in parts. They stay pending, and a claim takes the oldest first:
a batch full of them would be followed by the same one, and no score behind them be applied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_MANY: Final = 8
"""A full batch of which no eighth is put back does enough for others."""

_PASSES: Final = 16
"""Claims that pass by, until one looks at all that waits again; one that finds nothing ends it."""


class HeldOff:
    """Of the lanes of one process."""

    def __init__(self) -> None:
        self._behind = 0
        self._passes = 0
        self._looks = True

    def floor(self, floor: int) -> int:
        """Where the next claim begins, which may not begin before `floor`."""
        if not self._passes:
            self._looks = True
            return floor
        self._passes -= 1
        return max(floor, self._behind)

    def took(self, claimed: int, batch_size: int, put_back: Collection[int]) -> None:
        """What a batch claimed, and which of that is pending again."""
        if not claimed:
            self._passes = 0
        if claimed < batch_size or len(put_back) * _MANY < batch_size:
            # Behind all of them: from here on it is counted, or new ones would keep the oldest from their turn.
            self._looks = False
            return
        self._behind = max(max(put_back) + 1, self._behind if self._passes else 0)
        if self._looks:
            self._passes = _PASSES
