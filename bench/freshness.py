"""How long after its 202 a score can be seen, while others arrive at a share of what the service takes at most."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from bench.endpoints import orders, points_file
from bench.figures import Target, curve_ms, percentiles_ms
from bench.measures import Bench
from bench.pacing import pacing
from bench.plan import PROBES_PER_SECOND
from bench.population import Board

SHARES: Final = (0.0, 0.2, 0.5, 0.8)
TARGETS: Final = {0.5: Target("p99", 60.0, most=True)}


class Level(msgspec.Struct):
    """`share` of the capacity; rates in scores a second, the least of the rounds being what was reached. `held`: the
    generator kept its pace in all of them; where not, the level is none. `curve_ms`: percentiles 0 to 100.
    `late_ms`: how much later than due it sent."""

    share: float
    wanted: float
    reached: float
    held: bool
    probes: int
    visible_after_ms: dict[str, float]
    curve_ms: list[float]
    post_ms: dict[str, float]
    late_ms: dict[str, float]


class Freshness:
    """Collects probes of all levels, round by round."""

    def __init__(self, board: Board, capacity: float) -> None:
        self._board = board
        self._capacity = capacity
        self._visible_after: dict[float, list[float]] = {share: [] for share in SHARES}
        self._post_ms: dict[float, list[dict[str, float]]] = {share: [] for share in SHARES}
        self._late_ms: dict[float, list[dict[str, float]]] = {share: [] for share in SHARES}
        self._rates: dict[float, list[float]] = {share: [] for share in SHARES}
        self._held = dict.fromkeys(SHARES, True)

    async def sample(self, bench: Bench, number: int) -> None:
        """Measure each level once."""
        self._board.written = True
        file = points_file(bench, self._board)
        for share in SHARES:
            order = orders(bench, file, share * self._capacity)
            order.probes = PROBES_PER_SECOND
            order.season_id = self._board.season_id
            order.probe_prefix = f"probe-{number}-{share}-"
            async with pacing(order) as load, bench.checker.beside(self._board):
                await asyncio.sleep(bench.plan.freshness_seconds)
            paced = load.paced
            bench.client.accounts.accepted(self._board.season_id, paced.accepted + paced.probes_accepted)
            await bench.stack.drained()
            self._visible_after[share] += paced.visible_after
            self._post_ms[share].append(paced.latency_ms)
            self._late_ms[share].append(paced.late_ms)
            self._rates[share].append(load.rate)
            self._held[share] &= load.held

    def levels(self) -> list[Level]:
        return [
            Level(
                share=share,
                wanted=round(share * self._capacity, 1),
                reached=round(min(self._rates[share]), 1),
                held=self._held[share],
                probes=len(self._visible_after[share]),
                visible_after_ms=percentiles_ms(self._visible_after[share]),
                curve_ms=curve_ms(self._visible_after[share]),
                post_ms=_medians(self._post_ms[share]),
                late_ms=_medians(self._late_ms[share]),
            )
            for share in SHARES
        ]


def _medians(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    filled = [one for one in rounds if one]
    names: Iterator[str] = iter(filled[0]) if filled else iter(())
    return {name: round(statistics.median(one[name] for one in filled), 3) for name in names}
