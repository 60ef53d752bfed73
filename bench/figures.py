"""Numbers made of many: percentiles of one measurement, median and spread over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


class Spread(msgspec.Struct, frozen=True):
    """Over the rounds of a run."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds; none of nothing."""
    return dict(zip(PERCENTILES, _at(seconds, PERCENTILES.values()), strict=True)) if seconds else {}


def curve_ms(seconds: Sequence[float]) -> list[float]:
    """The 0th to the 100th percentile, milliseconds; none of nothing."""
    return _at(seconds, (percent / 100 for percent in range(101))) if seconds else []


def _at(seconds: Sequence[float], shares: Iterable[float]) -> list[float]:
    ordered = sorted(seconds)
    return [round(ordered[round(share * (len(ordered) - 1))] * 1000, 3) for share in shares]


class Target(msgspec.Struct, frozen=True):
    """What a figure is to reach. `of`: "ratio" to its limit, or "median"; `most`: not above, rather than not below."""

    of: str
    bound: float
    most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound
