"""Which of a player's events do not fit into the total."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.overflows import not_fitting, runs
from shared.scores import MAX_SCORE

_MAX = MAX_SCORE
_NUMBERS = st.integers(-_MAX, _MAX)


@pytest.mark.parametrize(
    ("total", "deltas", "left_out"),
    [
        (0, [_MAX, _MAX, -5, 1], [1]),
        (0, [_MAX, 1, -1, 1], [1]),
        (_MAX, [1, 1, 1], [0, 1, 2]),
        (-_MAX, [-1, 1, -1], [0]),
        (0, [5, -5], []),
    ],
)
def test_in_their_order_each_that_does_not_fit_behind_the_others_is_left_out(total, deltas, left_out):
    assert list(not_fitting(total, range(len(deltas)), deltas)) == left_out


@given(_NUMBERS, st.lists(_NUMBERS, max_size=20))
def test_what_is_left_fits_and_nothing_that_is_left_out_would(total, deltas):
    left_out = set(not_fitting(total, range(len(deltas)), deltas))
    for place, delta in enumerate(deltas):
        assert (abs(total + delta) > _MAX) == (place in left_out)
        total += 0 if place in left_out else delta


@given(_NUMBERS, st.lists(_NUMBERS, max_size=20))
def test_what_fits_together_is_cut_up_so_that_each_run_fits_too(total, deltas):
    left_out = set(not_fitting(total, range(len(deltas)), deltas))
    fitting = {place: delta for place, delta in enumerate(deltas) if place not in left_out}
    cut = runs(total, fitting)
    assert sorted(place for run in cut for place in run) == sorted(fitting)
    for run in cut:
        added = sum(fitting[place] for place in run)
        total += added
        assert max(abs(added), abs(total)) <= _MAX


def test_what_fits_together_in_no_order_of_its_own_does_in_runs():
    assert runs(-_MAX, {1: -3, 2: _MAX, 3: 5}) == [[3], [2, 1]]
    assert runs(0, {1: 5, 2: -7}) == [[2, 1]]
    assert runs(0, {}) == [[]]
