"""The claim's floor: follows the lowest pending id, but never passes an event that two sweeps could have missed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.floor import Floor

findings = st.lists(st.integers(0, 1000))


@given(findings)
def test_the_lower_of_the_last_two_findings(found):
    floor = Floor()
    for previous, latest in pairwise([0, *found]):
        floor.found(latest)
        assert floor.value == min(previous, latest)


def test_nothing_is_below_the_floor_before_two_sweeps():
    floor = Floor()
    assert floor.value == 0
    floor.found(500)
    assert floor.value == 0


def test_an_event_that_commits_late_is_found_by_the_sweep_after():
    floor = Floor()
    for lowest_pending in (100, 200, 300):
        floor.found(lowest_pending)
    assert floor.value == 200
    floor.found(150)
    assert floor.value == 150
