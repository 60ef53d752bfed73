"""Putting players on a board before it is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeAlias

from bench.measures import Bench
from bench.population import Board

_LOOKS: Final = 30

Tell: TypeAlias = Callable[[str], None]
"""Takes a line about how far the run is."""


async def load_board(bench: Bench, board: Board, tell: Tell) -> None:
    """All players of the board, by the batch endpoint, until the board shows them rightly."""
    tell(f"loading {board.size:,} players")
    started = time.monotonic()
    await bench.client.add_all(board.season_id, board.scores())
    accepted = time.monotonic() - started
    await bench.stack.drained()
    shown = time.monotonic() - started
    await bench.checker.look(board, _LOOKS)
    tell(f"all accepted after {accepted:.1f} s, on the board after {shown:.1f} s")
