"""What a run found, as it is written to bench.json."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from bench.figures import Spread, Target, spread
from bench.freshness import Level
from bench.measures import Measure, Sample
from bench.plan import Plan
from bench.sizes import COMPARED_TO, SizeSample


class Figure(msgspec.Struct):
    """One measure over all rounds. `ratio`: the median of the rounds' ratios to the limit measured beside."""

    name: str
    title: str
    unit: str
    rate: Spread
    limit_title: str
    limit: Spread | None
    ratio: Spread | None
    latency_ms: dict[str, float]
    limit_latency_ms: dict[str, float]
    target: Target | None
    reached: bool | None
    rounds: list[Sample]


class Size(msgspec.Struct):
    """A question to a board of so many players, over all rounds."""

    question: str
    size: int
    rate: Spread
    latency_ms: dict[str, float]


class Checks(msgspec.Struct):
    """What was found right: answers compared with what they must be, seasons equal to their ledger, rows in it."""

    answers: int
    seasons: int
    ledger_rows: int


class Results(msgspec.Struct):
    machine: dict[str, Any]
    plan: Plan
    seconds: float
    figures: list[Figure]
    freshness: list[Level]
    sizes: list[Size]
    megabytes: dict[str, dict[str, list[float]]]
    checks: Checks


def figure(measure: Measure, samples: Sequence[Sample]) -> Figure:
    limits = [sample.limit for sample in samples if sample.limit is not None]
    ratios = [sample.ratio for sample in samples if sample.ratio is not None]
    found = Figure(
        name=measure.name,
        title=measure.title,
        unit=measure.unit,
        rate=spread([sample.value for sample in samples]),
        limit_title=measure.limit,
        limit=spread(limits) if limits else None,
        ratio=spread(ratios) if ratios else None,
        latency_ms=_medians([sample.latency_ms for sample in samples]),
        limit_latency_ms=_medians([sample.limit_latency_ms for sample in samples]),
        target=measure.target,
        reached=None,
        rounds=list(samples),
    )
    if found.target is not None:
        value = found.ratio if found.target.of == "ratio" else found.rate
        assert value is not None
        found.reached = found.target.reached(value.median)
    return found


def sizes(samples: Sequence[SizeSample]) -> list[Size]:
    keys = dict.fromkeys((sample.question, sample.size) for sample in samples)
    return [
        Size(
            question,
            size,
            spread([one.rate for one in samples if (one.question, one.size) == (question, size)]),
            _medians([one.latency_ms for one in samples if (one.question, one.size) == (question, size)]),
        )
        for question, size in keys
    ]


def times_slower(found: Sequence[Size], question: str) -> float | None:
    """How many times the largest board takes of what COMPARED_TO players take; None where one was not measured."""
    rates = {one.size: one.rate.median for one in found if one.question == question}
    largest = max(rates, default=0)
    return rates[COMPARED_TO] / rates[largest] if COMPARED_TO in rates and largest > COMPARED_TO else None


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    names = rounds[0] if rounds else {}
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in names}
