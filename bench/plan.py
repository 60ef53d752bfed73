"""How much of a run: everything in 25 minutes at most, or the quick look of two or three."""

from __future__ import annotations

from typing import Final

import msgspec

SCENARIOS: Final = {
    "top10": "the ten best of a quiet board",
    "top100": "the hundred best of a quiet board",
    "top10-busy": "the same while 1,000 scores a second arrive",
    "top100-busy": "the same while 1,000 scores a second arrive",
    "rank": "the rank of a player drawn by chance",
    "around": "five neighbours on each side of a player drawn by chance",
    "post": "one score a request, all in one season",
    "post-keyed": "the same with an Idempotency-Key each",
    "post-many": "the same over 1,000 seasons",
    "post-long": "the same with user ids of 128 characters",
    "rank-long": "ranks of players with such ids",
    "mix90": "nine reads (top 10, rank, around) to one score",
    "mix50": "reads and scores by halves",
    "batch": "5,000 scores a request, against pgbench with 500 rows a statement",
    "ledger": "pgbench with 32 rows a statement",
    "drain": "a backlog, one worker, one season, against pipelined ZADD",
    "drain2": "a backlog, two workers, four seasons, against pipelined ZADD",
    "drain-windows": "a backlog of a season with all windows, one worker",
    "drain-games": "the same of a game: best scores, windows, the earliest higher",
    "freshness": "how long after its 202 a score can be seen, at 0, 20, 50 and 80 % of what post reached",
    "sizes": "rank, around and top 100 on boards of 10 to 10,000,000 players",
}


class Plan(msgspec.Struct, frozen=True):
    """`seconds` is how long one measurement of one round takes; the rest grows with it and with the board.
    `rest_seconds`: how long each waits at most for what those in front of it left to do."""

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    rounds: int = 5
    seconds: float = 2.0
    players: int = 1_000_000
    sizes: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    connections: int = 64
    rest_seconds: float = 60.0

    @property
    def sizes_seconds(self) -> float:
        return self.seconds * 2 / 3

    @property
    def freshness_seconds(self) -> float:
        """Of one level in one round; with 50 probes a second five rounds of the whole run make 1,000 a level."""
        return self.seconds * 2

    @property
    def seasons(self) -> int:
        """The scenario of many."""
        return min(1_000, max(1, self.players // 500))

    @property
    def backlog(self) -> int:
        """Events that are drained at once."""
        return min(200_000, self.players // 2 + 1)

    @property
    def distinct_requests(self) -> int:
        """That a generator repeats, each about a player drawn by chance."""
        return min(50_000, self.players)

    def checked(self) -> Plan:
        """This plan, or ValueError."""
        unknown = sorted(set(self.scenarios) - set(SCENARIOS))
        if unknown:
            raise ValueError(f"no such scenario: {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
        if min(self.rounds, self.seconds, self.players, *self.sizes) <= 0:
            raise ValueError("rounds, seconds, players and sizes must be above 0")
        if "freshness" in self.scenarios and "post" not in self.scenarios:
            raise ValueError("freshness is measured at shares of what post reaches: it needs both")
        return self


FULL: Final = Plan()
QUICK: Final = Plan(rounds=2, seconds=0.5, players=100_000, sizes=(1_000, 10_000, 100_000), rest_seconds=1.0)
PROBES_PER_SECOND: Final = 50.0
