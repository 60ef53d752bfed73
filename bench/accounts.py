"""How many scores were accepted, season by season: what the ledger must hold in the end."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from bench.generators import Load


class Range(NamedTuple):
    least: int
    most: int


class Accounts:
    """Seasons whose ids are equal up to a colon share an account: a generator does not tell them apart."""

    def __init__(self) -> None:
        self._least: Counter[str] = Counter()
        self._most: Counter[str] = Counter()

    def accepted(self, season_id: str, number: int = 1) -> None:
        """So many 202s came."""
        self._add(season_id, number, number)

    def loaded(self, season_id: str, load: Load) -> None:
        """A generator sent scores; it did not wait for its last answers."""
        self._add(season_id, load.least_writes, load.most_writes)

    def ranges(self) -> dict[str, Range]:
        return {account: Range(self._least[account], most) for account, most in self._most.items()}

    def _add(self, season_id: str, least: int, most: int) -> None:
        self._least[account_of(season_id)] += least
        self._most[account_of(season_id)] += most


def account_of(season_id: str) -> str:
    return season_id.partition(":")[0]
