"""Standings as boards hold them: which members, with which scores, on which of a season's boards. Pure.

A sorted set's scores are doubles, which the points fill to the last bit. So who reached a score first is told by the
member: before the player's id stands the moment, as text that is sorted as moments are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from shared.scores import Order, Rules
from shared.standings import Standing
from shared.windows import BOARDS

TIE_LENGTH: Final = 14
"""Hexadecimal digits of a moment in microseconds: as text they stand in the same order as the numbers."""
_LAST_MOMENT: Final = 16**TIE_LENGTH - 1


class Shown(NamedTuple):
    """A player on a board. `tie` stands before the player's id there: '' where the season breaks ties by ids."""

    score: float
    tie: str


def tie_of(reached_at: int, order: Order) -> str:
    """What stands before a player's id on a board where the first to reach a score stands higher.

    `reached_at`: in microseconds. Equal scores stand in the order of their members' bytes, which is read backwards
    where the high scores are the better ones.
    """
    return f"{reached_at if order == 'asc' else _LAST_MOMENT - reached_at:0{TIE_LENGTH}x}"


def places_of(standing: Standing, rules: Rules) -> list[Shown | None]:
    """Where a player must be: on each of the season's boards, None = not there."""
    told: Sequence[Any] = standing
    scores, moments = told[2::2], told[3::2]
    earliest = rules.tie_break == "earliest"
    return [
        None if score is None else Shown(score, tie_of(moment or 0, rules.order) if earliest else "")
        for score, moment in zip(scores, moments, strict=True)
    ][: len(BOARDS) if rules.windows else 1]


def changes_of(standings: Sequence[Standing], rules: Rules) -> list[tuple[list[str], list[str]]]:
    """For each board what is to be shown and who is to go. Scores as text: Lua's way from a number to text is slower
    and has more to get wrong."""
    changes: list[tuple[list[str], list[str]]] = []
    rows: Sequence[Any] = standings
    for at in range(2, 2 + 2 * len(BOARDS) if rules.windows else 4, 2):
        gone = [row.user_id for row in rows if row[at] is None]
        there = (row for row in rows if row[at] is not None)
        if rules.tie_break == "earliest":
            ties = ((str(row[at]), row.user_id, tie_of(row[at + 1] or 0, rules.order)) for row in there)
            shown = list(chain.from_iterable(ties))
        else:
            shown = list(chain.from_iterable((str(row[at]), row.user_id) for row in there))
        changes.append((shown, gone))
    return changes
