"""Players whose scores, and so whose ranks, are known by construction, whatever the size of the board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SPACING: Final = 1_000_000
"""Between two players' scores. Points added one at a time never close it, so that ranks stay what they are."""

_FACTOR: Final = 2_654_435_761
"""A prime larger than any board: multiplying by it, modulo the size, shuffles the ranks."""

ROWS: Final = f"""
select %(season_id)s, 1, %(prefix)s || lpad(number::text, %(digits)s, '0'),
  (1 + number * {_FACTOR} %% %(size)s) * {SPACING}
from generate_series(0::bigint, %(size)s - 1) as number
"""
"""The same in SQL: season, epoch, player and score."""


@dataclass
class Board:
    """`size` players of a season. `written`: points were added one at a time since, nobody knows to whom."""

    season_id: str
    size: int
    prefix: str = "p"
    digits: int = 8
    written: bool = False

    def user_id(self, number: int) -> str:
        return f"{self.prefix}{number:0{self.digits}d}"

    def score(self, number: int) -> int:
        """At the beginning; since then less than SPACING were added."""
        return (1 + number * _FACTOR % self.size) * SPACING

    def rank(self, number: int) -> int:
        return self.size - number * _FACTOR % self.size

    def at_rank(self, rank: int) -> int:
        """The player's number."""
        return (self.size - rank) * pow(_FACTOR, -1, self.size) % self.size

    def scores(self) -> Iterator[tuple[str, int]]:
        return ((self.user_id(number), self.score(number)) for number in range(self.size))

    def sql_values(self) -> dict[str, object]:
        """What ROWS is to be given."""
        return {"season_id": self.season_id, "size": self.size, "prefix": self.prefix, "digits": self.digits}
