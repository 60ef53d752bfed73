"""What a comparison of a season's ledger, standings and board finds: values that checks and reports share.

`shared.ledger_check` compares standings with the ledger, `shared.board_check` the board with standings.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

from shared.camel_case import camel
from shared.scores import SeasonId, UserId
from shared.windows import Window

Kind: TypeAlias = Literal[
    "standing missing",
    "standing extra",
    "standing wrong",
    "minute missing",
    "minute extra",
    "minute wrong",
    "board missing",
    "board extra",
    "board wrong",
    "board behind",
]

_KINDS: Final[dict[tuple[str, str], Kind]] = {
    (where, how): kind for kind in get_args(Kind) for where, how in [kind.split()]
}

_NAMED: Final = 5
"""Differences that a report names; it counts all."""


class Difference(NamedTuple):
    """A player whose score is not what it must be; None = not there. `board behind` names nobody.

    Scores that are equal were not reached at the same moment. `window`: on whose board, None = on that of all time.
    """

    kind: Kind
    user_id: UserId
    expected: float | None
    found: float | None
    window: Window | None = None


@dataclass
class Report:
    """What was found in one season. Counts of players are of slightly different moments while scores come in."""

    season_id: SeasonId
    ledger_players: int = 0
    standing_players: int = 0
    board_players: int = 0
    differences: Counter[Kind] = field(default_factory=Counter)
    named: list[Difference] = field(default_factory=list)
    repaired: int = 0
    unsettled: str | None = None
    """Why the board can't be compared for now; None where it was."""

    def note(self, difference: Difference) -> None:
        self.differences[difference.kind] += 1
        if len(self.named) < _NAMED:
            self.named.append(difference)

    def forget_board(self) -> None:
        """Before the board is compared anew."""
        self.named = [difference for difference in self.named if not difference.kind.startswith("board")]
        for kind in [kind for kind in self.differences if kind.startswith("board")]:
            del self.differences[kind]

    @property
    def remaining(self) -> int:
        return self.differences.total() - self.repaired

    @property
    def equal(self) -> bool:
        """Whether all three agree now, after repairs."""
        return self.remaining == 0 and self.unsettled is None


def kind_of(where: Literal["standing", "minute", "board"], expected: float | None, found: float | None) -> Kind:
    """How two scores that are not equal differ."""
    how: Literal["missing", "extra", "wrong"] = "wrong"
    if found is None:
        how = "missing"
    elif expected is None:
        how = "extra"
    return _KINDS[where, how]


def document(report: Report) -> dict[str, Any]:
    """A report as JSON says it, from the command as from the API."""
    return {
        "seasonId": report.season_id,
        "equal": report.equal,
        "players": {
            "ledger": report.ledger_players,
            "standings": report.standing_players,
            "board": report.board_players,
        },
        "differences": {camel(kind): number for kind, number in sorted(report.differences.items())},
        "first": [
            {
                "kind": camel(difference.kind),
                "userId": difference.user_id or None,
                "window": difference.window,
                "expected": difference.expected,
                "found": difference.found,
            }
            for difference in report.named
        ],
        "repaired": report.repaired,
        "unsettled": report.unsettled,
    }
