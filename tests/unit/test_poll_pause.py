"""How long an idle worker waits before it asks again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.batch import Batch
from worker.loop import next_poll_seconds

counts = st.integers(0, 10_000)
sizes = st.integers(1, 10_000)
polls = st.floats(0.001, 60)


@given(sizes, polls, st.integers(0, 10))
def test_after_a_full_batch_at_once(size, poll_seconds, more):
    assert next_poll_seconds(Batch(size + more, 1, 0), size, poll_seconds) == 0


@given(sizes, polls)
def test_after_an_empty_one_the_whole_pause(size, poll_seconds):
    assert next_poll_seconds(Batch(0, 0, 0), size, poll_seconds) == poll_seconds


@given(counts, counts, sizes, polls)
def test_the_fuller_the_sooner_and_never_longer_than_the_pause(one, other, size, poll_seconds):
    fewer, more = sorted((one, other))
    waits = [next_poll_seconds(Batch(events, 1, 0), size, poll_seconds) for events in (more, fewer)]
    assert 0 <= waits[0] <= waits[1] <= poll_seconds
