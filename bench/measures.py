"""What is measured in every round: a figure of the service, and the limit beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from bench.checks import Checker
from bench.client import Client
from bench.figures import Target
from bench.generators import Generator
from bench.plan import Plan
from bench.stack import Stack


class Bench(msgspec.Struct):
    """A run's parts. `folder` is for files that are gone afterwards, `bare_url` where bare uvicorn answers."""

    plan: Plan
    stack: Stack
    client: Client
    checker: Checker
    generator: Generator
    folder: Path
    bare_url: str = ""


class Sample(msgspec.Struct, omit_defaults=True):
    """One round's figure, per second, and its limit's where there is one. Latencies in milliseconds. `arriving`: scores
    a second that came in beside it."""

    value: float
    limit: float | None = None
    latency_ms: dict[str, float] = {}
    limit_latency_ms: dict[str, float] = {}
    arriving: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None else self.value / self.limit


class Measure(Protocol):
    """`name` is what --only takes, `title` what the table says."""

    name: str
    title: str
    unit: str
    limit: str
    target: Target | None

    async def sample(self, bench: Bench, number: int) -> Sample:
        """Measure once, in round `number`, and leave nothing pending behind. Raises BrokenError."""
        ...
