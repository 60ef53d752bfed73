"""When claims pass by what can't be applied yet."""

from __future__ import annotations

from worker.held_off import HeldOff

_SIZE = 16


def floors(held_off, number):
    return [held_off.floor(5) for _ in range(number)]


def test_who_meets_few_or_all_that_waits_passes_nothing_by():
    held_off = HeldOff()
    held_off.took(_SIZE, _SIZE, {7})
    held_off.took(_SIZE - 1, _SIZE, set(range(10, 10 + _SIZE - 1)))
    assert floors(held_off, 2) == [5, 5]


def test_many_are_passed_by_for_a_while_and_those_that_are_met_behind_them_too():
    held_off = HeldOff()
    held_off.took(_SIZE, _SIZE, {10, 11})
    assert floors(held_off, 2) == [12, 12]
    held_off.took(_SIZE, _SIZE, {20, 30})
    held_off.took(_SIZE, _SIZE, {8, 9})
    assert floors(held_off, 20) == [31] * 16 + [5] * 4
    held_off.took(_SIZE, _SIZE, {10, 11})
    assert held_off.floor(50) == 50


def test_who_finds_nothing_behind_them_looks_at_all_that_waits():
    held_off = HeldOff()
    held_off.took(_SIZE, _SIZE, {10, 11})
    held_off.took(0, _SIZE, set())
    assert held_off.floor(5) == 5


def test_new_ones_do_not_keep_the_oldest_from_their_turn():
    held_off = HeldOff()
    met = []
    for number in range(60):
        met.append(held_off.floor(0) == 0)
        held_off.took(_SIZE, _SIZE, {number} if number % 2 else {number, number - 1})
    assert [number for number, is_first in enumerate(met) if is_first] == [0, 17, 18, 35, 36, 53, 54]
