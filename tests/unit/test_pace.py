"""The predicted wait: none while a flush is free, rounds of the usual length else, and a flush that hangs counts."""

from __future__ import annotations

import pytest

from shared.pace import Pace


@pytest.fixture
def pace():
    """Two flushes at a time of ten items each; one took two seconds every time so far."""
    pace = Pace(max_batch=10, concurrency=2)
    for _ in range(50):
        pace.finished(pace.started(0.0), 2.0)
    return pace


def test_nobody_waits_while_a_flush_is_free(pace):
    assert pace.wait_seconds(0, 0.0) == 0.0
    pace.started(0.0)
    assert pace.wait_seconds(1000, 99.0) == 0.0


def test_who_waits_waits_for_as_many_rounds_as_there_are_full_batches_in_front(pace):
    pace.started(0.0)
    pace.started(0.0)
    assert pace.wait_seconds(0, 0.0) == pytest.approx(2.0, rel=0.01)
    assert pace.wait_seconds(19, 0.0) == pytest.approx(2.0, rel=0.01)
    assert pace.wait_seconds(20, 0.0) == pytest.approx(4.0, rel=0.01)
    assert pace.wait_seconds(200, 0.0) == pytest.approx(22.0, rel=0.01)


def test_flushes_that_all_hang_count_as_long_as_the_newest_hangs(pace):
    pace.started(0.0)
    pace.started(5.0)
    assert pace.wait_seconds(0, 9.0) == 4.0


def test_one_that_hangs_alone_does_not_keep_the_others_from_being_used(pace):
    pace.started(0.0)
    for second in range(100, 200, 2):
        pace.finished(pace.started(second), second + 2)
    pace.started(200.0)
    assert pace.wait_seconds(0, 200.0) == pytest.approx(2.0, rel=0.01)


def test_the_newest_flushes_decide(pace):
    for _ in range(20):
        pace.finished(pace.started(0.0), 0.1)
    pace.started(0.0)
    pace.started(0.0)
    assert pace.wait_seconds(0, 0.0) < 0.2
