"""Standings as boards hold them: which members, with which scores, on which of a season's boards. Pure.

A sorted set's scores are doubles, which the points fill to the last bit. So who reached a score first is told by the
member: before the player's id stands the moment, and the event of that moment, as text that is sorted as they are.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from itertools import chain
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any, Final, NamedTuple

from shared.scores import Order, Rules
from shared.standings import Standing
from shared.windows import BOARDS

TIE_LENGTH: Final = 20
"""Characters of six bits: a moment in microseconds, which has 56 of them until the year 4253, and an event's id."""
_ALL_BITS: Final = 2**120 - 1

# base64's digits in the order of their bytes, so that ties stand in the order of what they say.
_IN_ORDER: Final = bytes.maketrans(
    (ascii_uppercase + ascii_lowercase + digits + "+/").encode(),
    ("-" + digits + ascii_uppercase + "_" + ascii_lowercase).encode(),
)


class Shown(NamedTuple):
    """A player on a board. `tie` stands before the player's id there: '' where the season breaks ties by ids."""

    score: float
    tie: str


def tie_of(reached_at: int, reached_by: int, order: Order) -> str:
    """What stands before a player's id on a board where the first to reach a score stands higher.

    `reached_at`: in microseconds; `reached_by`: by which event, of those of the same moment. Equal scores stand in the
    order of their members' bytes, which is read backwards where the high scores are the better ones.
    """
    place = reached_at << 64 | reached_by
    if order == "desc":
        place = _ALL_BITS - place
    return b64encode(place.to_bytes(15, "big")).translate(_IN_ORDER).decode()


def places_of(standing: Standing, rules: Rules) -> list[Shown | None]:
    """Where a player must be: on each of the season's boards, None = not there."""
    told: Sequence[Any] = standing
    earliest = rules.tie_break == "earliest"
    return [
        None if score is None else Shown(score, tie_of(at or 0, by or 0, rules.order) if earliest else "")
        for score, at, by in zip(told[2::3], told[3::3], told[4::3], strict=True)
    ][: len(BOARDS) if rules.windows else 1]


def entries_of_a_player(rules: Rules) -> int:
    """How many entries a player has in all keys of a season together, at most."""
    return (len(BOARDS) if rules.windows else 1) * (2 if rules.tie_break == "earliest" else 1)


def changes_of(standings: Sequence[Standing], rules: Rules) -> list[tuple[list[str], list[str]]]:
    """For each board what is to be shown and who is to go. Scores as text: Lua's way from a number to text is slower
    and has more to get wrong."""
    changes: list[tuple[list[str], list[str]]] = []
    rows: Sequence[Any] = standings
    ties: dict[int, str] = {}  # of most players the same on several boards
    for of in range(2, 2 + 3 * len(BOARDS) if rules.windows else 5, 3):
        gone = [row.user_id for row in rows if row[of] is None]
        there = [row for row in rows if row[of] is not None] if gone else rows
        shown: list[str] = []
        if rules.tie_break == "earliest":
            for row in there:
                by = row[of + 2] or 0
                tie = ties.get(by)
                if tie is None:
                    tie = ties[by] = tie_of(row[of + 1] or 0, by, rules.order)
                shown += str(row[of]), row.user_id, tie
        else:
            shown = list(chain.from_iterable((str(row[of]), row.user_id) for row in there))
        changes.append((shown, gone))
    return changes
