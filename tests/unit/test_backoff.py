"""Back-off: never immediate, never beyond its ceiling, longer with each failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import backoff_seconds

failures = st.integers(1, 10_000)
draws = st.floats(0, 1, exclude_max=True)


@given(failures, draws, st.floats(0.001, 10), st.floats(0.001, 100))
def test_between_half_and_all_of_the_full_wait(count, draw, first, ceiling):
    full = backoff_seconds(count, 1.0, first=first, ceiling=ceiling)
    assert full <= ceiling
    assert 0 < full / 2 <= backoff_seconds(count, draw, first=first, ceiling=ceiling) <= full


@given(failures, draws)
def test_one_more_failure_never_shortens_the_wait(count, draw):
    assert backoff_seconds(count, draw) <= backoff_seconds(count + 1, draw)


def test_doubles_until_the_ceiling():
    waits = [backoff_seconds(count, 1.0, first=0.1, ceiling=1.0) for count in range(1, 7)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
