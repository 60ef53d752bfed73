"""Numbers made of many: percentiles of one measurement, median and spread over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


class Spread(NamedTuple):
    """Over the rounds of a run."""

    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds; none of nothing."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {name: round(ordered[round(share * last)] * 1000, 3) for name, share in PERCENTILES.items()}


class Target(msgspec.Struct, frozen=True):
    """What a figure is to reach. `of`: "ratio" to its limit, or "median"; `most`: not above, rather than not below."""

    of: str
    bound: float
    most: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.bound if self.most else value >= self.bound
