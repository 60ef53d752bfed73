"""How long an idle worker rests before it asks again, and whether a hint may cut that short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.batch import Batch
from worker.loop import Rest, rest_after

sizes = st.integers(1, 10_000)
polls = st.floats(0.001, 60)
hints = st.booleans()


@given(sizes, polls, st.integers(0, 10), hints)
def test_after_a_full_batch_at_once(size, poll_seconds, more, hinted):
    assert rest_after(Batch(size + more, 1, 0), size, poll_seconds, hinted=hinted) == Rest(0, 0)


@given(st.data(), st.integers(2, 10_000), polls, hints)
def test_after_one_that_was_not_full_a_pause_whatever_is_heard_and_no_longer_than_a_poll(
    data, size, poll_seconds, hinted
):
    events = data.draw(st.integers(1, size - 1))
    rest = rest_after(Batch(events, 1, 0), size, poll_seconds, hinted=hinted)
    assert 0 < rest.pause <= poll_seconds
    assert rest.listen == 0


@given(st.integers(1, 64), st.integers(65, 499), hints)
def test_the_fewer_events_the_longer_the_pause(few, many, hinted):
    rests = [rest_after(Batch(events, 1, 0), 500, 0.05, hinted=hinted) for events in (few, many)]
    assert rests[0].pause > rests[1].pause


@given(sizes, polls)
def test_after_an_empty_one_until_the_next_poll_or_hint(size, poll_seconds):
    assert rest_after(Batch(0, 0, 0), size, poll_seconds, hinted=False) == Rest(0, poll_seconds)


@given(sizes, polls)
def test_hints_that_come_for_nothing_are_followed_no_more_often_than_pauses(size, poll_seconds):
    rest = rest_after(Batch(0, 0, 0), size, poll_seconds, hinted=True)
    assert rest.pause > 0
    assert rest.pause + rest.listen <= poll_seconds * (1 + 1e-9)
