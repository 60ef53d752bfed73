"""Who moved: the whole way within a mark's time, and nothing of the first board."""

from __future__ import annotations

from cli.board_feed import Row
from cli.movement import Moved, Movements

STILL = Moved(0, entered=False, gain=0)


def board(*players):
    return [Row(rank, user_id, score) for rank, (user_id, score) in enumerate(players, start=1)]


def test_nobody_moves_on_the_first_board():
    assert Movements(10).update(board(("ann", 3), ("bob", 2)), 0) == {"ann": STILL, "bob": STILL}


def test_moves_add_up_while_their_mark_lasts_and_go():
    movements = Movements(10)
    movements.update(board(("ann", 3), ("bob", 2), ("cid", 1)), 0)
    assert movements.update(board(("ann", 3), ("cid", 3), ("bob", 2)), 1)["cid"] == Moved(1, entered=False, gain=2)
    told = movements.update(board(("cid", 4), ("ann", 3), ("bob", 2)), 2)
    assert told == {
        "cid": Moved(2, entered=False, gain=1),
        "ann": Moved(-1, entered=False, gain=0),
        "bob": Moved(-1, entered=False, gain=0),
    }
    assert set(movements.update(board(("cid", 4), ("ann", 3), ("bob", 2)), 20).values()) == {STILL}


def test_who_comes_onto_the_board_is_new():
    movements = Movements(10)
    movements.update(board(("ann", 3)), 0)
    assert movements.update(board(("eve", 9), ("ann", 3)), 1)["eve"] == Moved(0, entered=True, gain=0)
