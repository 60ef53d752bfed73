"""The claim's floor: where pending events begin, so that a claim need not wade through the dead ones before."""

from __future__ import annotations


class Floor:
    """Follows the sweeps' findings one sweep behind.

    An event's id is drawn before its transaction commits, so one below the lowest that a sweep could see may still
    appear. Taking the lower of the last two findings gives it a whole sweep interval to do so; one that takes even
    longer is found by the sweep after.
    """

    def __init__(self) -> None:
        self._previous = 0
        self.value = 0

    def found(self, lowest_pending: int) -> None:
        self.value = min(self._previous, lowest_pending)
        self._previous = lowest_pending
