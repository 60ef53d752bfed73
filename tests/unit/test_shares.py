"""Which share of the seasons a batch takes: all of them, unless much waits in several; then each in its turn."""

from __future__ import annotations

from worker.batch import Batch
from worker.shares import Shares

SIZE = 100
RICH = [1, 4, 6]


def batch(*shares, events=SIZE):
    return Batch(events, 1, 0, shares)


def divided():
    """After a full batch that showed three shares to have much."""
    shares = Shares()
    assert shares.candidates() == []
    shares.took(batch(*RICH), SIZE)
    return shares


def test_all_seasons_as_long_as_batches_are_not_full_or_one_share_has_all():
    shares = Shares()
    for whole in (batch(events=0), batch(1, 2, events=SIZE - 1), batch(1)) * 3:
        assert shares.candidates() == []
        shares.took(whole, SIZE)


def test_each_share_is_the_first_in_its_turn_and_now_and_then_all_seasons_are():
    shares = divided()
    firsts = []
    for _ in range(64):
        candidates = shares.candidates()
        if candidates:
            assert sorted(candidates) == RICH
            firsts.append(candidates[0])
        shares.took(batch(*candidates[:1] or RICH), SIZE)
    assert len(firsts) == 60
    assert set(firsts) == set(RICH)


def test_a_share_with_too_little_in_it_is_left_out_until_a_batch_of_all_seasons():
    shares = divided()
    shares.candidates()
    shares.took(batch(4, events=5), SIZE)
    while candidates := shares.candidates():
        assert sorted(candidates) == [1, 6]
        shares.took(batch(candidates[0]), SIZE)
    shares.took(batch(*RICH), SIZE)
    assert sorted(shares.candidates()) == RICH


def test_one_share_that_is_left_is_none_to_divide():
    shares = divided()
    for share in (1, 4):
        assert shares.candidates()
        shares.took(batch(share, events=0), SIZE)
    assert shares.candidates() == []


def test_after_a_batch_that_failed_the_next_one_is_of_all_seasons():
    shares = divided()
    assert shares.candidates()
    assert shares.candidates() == []
    assert shares.candidates() == []  # that one failed as well
    shares.took(batch(*RICH), SIZE)
    assert shares.candidates()


def test_every_one_of_eight_shares_has_its_turn_to_be_first():
    shares = Shares()
    shares.candidates()
    shares.took(batch(*range(8)), SIZE)
    firsts = set()
    for _ in range(64):
        candidates = shares.candidates()
        firsts.update(candidates[:1])
        shares.took(batch(*candidates[:1] or range(8)), SIZE)
    assert firsts == set(range(8))


def test_a_batch_of_all_seasons_that_is_not_full_ends_the_division():
    shares = divided()
    while candidates := shares.candidates():
        shares.took(batch(candidates[0]), SIZE)
    shares.took(batch(*RICH, events=SIZE - 1), SIZE)
    assert shares.candidates() == []
