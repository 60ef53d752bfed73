"""Which share of the seasons a batch takes: all of them, unless much waits in many seasons; then each in its turn."""

from __future__ import annotations

from shared.outbox import SHARES
from worker.batch import Batch
from worker.shares import Shares

SIZE = 100
FULL = Batch(SIZE, SHARES, 0)


def of_share(share, events=SIZE):
    return Batch(events, 1, 0, share)


def in_shares():
    """After a full batch of many seasons."""
    shares = Shares()
    assert shares.candidates() == []
    shares.took(FULL, SIZE)
    return shares


def test_all_seasons_as_long_as_batches_are_not_full_or_have_few_seasons():
    shares = Shares()
    for batch in (Batch(0, 0, 0), Batch(SIZE - 1, SHARES, 0), Batch(SIZE, SHARES - 1, 0)) * 3:
        assert shares.candidates() == []
        shares.took(batch, SIZE)


def test_each_share_is_the_first_in_its_turn_and_now_and_then_all_seasons_are():
    shares = in_shares()
    firsts = []
    for _ in range(64):
        candidates = shares.candidates()
        if candidates:
            assert sorted(candidates) == list(range(SHARES))
            shares.took(of_share(candidates[0]), SIZE)
            firsts.append(candidates[0])
        else:
            shares.took(FULL, SIZE)
    assert len(firsts) == 60
    assert set(firsts) == set(range(SHARES))


def test_a_share_with_too_little_in_it_is_left_out_for_a_while():
    shares = in_shares()
    shares.candidates()
    shares.took(of_share(3, events=5), SIZE)
    rounds = 0
    while 3 not in (candidates := shares.candidates()):
        rounds += bool(candidates)
        shares.took(of_share(candidates[0]) if candidates else FULL, SIZE)
    assert rounds > SHARES


def test_one_share_that_has_it_all_is_none_to_divide():
    shares = in_shares()
    for share in range(1, SHARES):
        assert shares.candidates()
        shares.took(of_share(share, events=0), SIZE)
    assert shares.candidates() == []


def test_where_no_share_is_free_the_next_batch_takes_of_all_seasons():
    shares = in_shares()
    assert shares.candidates()
    shares.took(Batch(0, 0, 0), SIZE)
    assert shares.candidates() == []
