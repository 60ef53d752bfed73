"""Pauses: one season in trouble is left alone, the longer the more often it failed; the others go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import backoff_seconds
from worker.pauses import Pauses

FULL = 1.0  # the draw that gives the whole wait
times = st.floats(0, 1e6)
draws = st.floats(0, 1, exclude_max=True)
names = st.sets(st.sampled_from(["a", "b", "c", "d"]))


def pause_length(pauses, season_id, now):
    """How long the season, just paused, will be left alone: found by asking, to a thousandth of a second."""
    return next(step / 1000 for step in range(10_000) if season_id not in pauses.paused(now + step / 1000))


@given(names, names, times, draws)
def test_exactly_the_seasons_in_trouble_are_paused_and_not_for_ever(in_trouble, others, now, draw):
    pauses = Pauses()
    pauses.pause(in_trouble, now, draw)
    assert set(pauses.paused(now)) == in_trouble
    assert not set(pauses.paused(now)) & (others - in_trouble)
    assert pauses.paused(now + 3) == []


def test_each_failure_in_a_row_makes_the_pause_longer_up_to_the_ceiling():
    pauses, lengths = Pauses(), []
    for now in range(0, 80, 10):
        pauses.pause(["a"], now, FULL)
        lengths.append(pause_length(pauses, "a", now))
    assert lengths == sorted(lengths)
    assert lengths[0] == backoff_seconds(1, FULL, first=0.1)
    assert lengths[1] > lengths[0]
    assert lengths[-1] == lengths[-2] == 2.0


def test_a_batch_that_went_through_lets_seasons_past_their_pause_start_anew():
    pauses = Pauses()
    for now in (0, 10, 20):
        pauses.pause(["a"], now, FULL)
    first = backoff_seconds(1, FULL, first=0.1)
    pauses.settle(30)
    pauses.pause(["a"], 40, FULL)
    assert pause_length(pauses, "a", 40) == first


def test_a_batch_without_the_paused_season_says_nothing_about_it():
    pauses = Pauses()
    for now in (0, 10, 20):
        pauses.pause(["a"], now, FULL)
    before = pause_length(pauses, "a", 20)
    pauses.settle(20.1)
    assert pauses.paused(20.1) == ["a"]
    pauses.pause(["a"], 30, FULL)
    assert pause_length(pauses, "a", 30) > before


def test_trouble_of_one_season_does_not_lengthen_the_pause_of_another():
    pauses = Pauses()
    for now in (0, 10, 20):
        pauses.pause(["a"], now, FULL)
    pauses.pause(["b"], 20, FULL)
    assert pause_length(pauses, "b", 20) == backoff_seconds(1, FULL, first=0.1)


def test_a_season_stays_in_trouble_until_a_batch_went_through_after_its_pause():
    pauses = Pauses()
    pauses.pause(["a"], 0, FULL)
    assert pauses.paused(10) == []
    assert pauses.in_trouble() == ["a"]
    pauses.settle(10)
    assert pauses.in_trouble() == []
