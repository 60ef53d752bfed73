"""Running many schedules, on all processors that there are; telling of one that went wrong, to be replayed."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from model.rules import RIGHT, WRONG
from model.world import TICKS, run

CHUNK = 1000


class Outcome(NamedTuple):
    divergent: list[int]  # seeds
    verdicts: Counter[str]  # what boards answered, how often


def rules_of(variant: str | None):
    return RIGHT if variant is None else WRONG[variant]


def run_chunk(first: int, count: int, variant: str | None) -> Outcome:
    rules, verdicts = rules_of(variant), Counter()
    divergent = [seed for seed in range(first, first + count) if run(seed, rules, verdicts=verdicts) is not None]
    return Outcome(divergent, verdicts)


def run_all(first: int, count: int, variant: str | None = None) -> Outcome:
    """The schedules `first` … `first + count - 1`."""
    starts = range(first, first + count, CHUNK)
    sizes = [min(CHUNK, first + count - start) for start in starts]
    workers = min(len(starts), os.cpu_count() or 1)
    # Not forked: the test run has threads and servers of its own.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as executor:
        outcomes = list(executor.map(run_chunk, starts, sizes, itertools.repeat(variant)))
    return Outcome(
        [seed for outcome in outcomes for seed in outcome.divergent],
        sum((outcome.verdicts for outcome in outcomes), Counter()),
    )


def first_divergent(first: int, limit: int, variant: str) -> int | None:
    rules = rules_of(variant)
    return next((seed for seed in range(first, first + limit) if run(seed, rules) is not None), None)


def explain(seed: int, variant: str | None = None) -> str:
    """The shortest beginning of the schedule that ends wrong, step by step. Tokens are numbered by size: t1, t2, …"""
    rules = rules_of(variant)
    ticks = next((ticks for ticks in range(TICKS) if run(seed, rules, ticks=ticks) is not None), TICKS)
    trace: list[str] = []
    wrong = run(seed, rules, ticks=ticks, trace=trace)
    text = "\n".join(trace)
    tokens = sorted({int(token) for token in re.findall(r"\d{9,}", text)})
    names = {str(token): f"t{number}" for number, token in enumerate(tokens, 1)}
    steps = re.sub(r"\d{9,}", lambda match: names[match.group()], text)
    chosen = "" if variant is None else f'VARIANT="{variant}" '
    return (
        f"schedule {seed}, {variant or 'the protocol as it is'}, {ticks} ticks of trouble:\n{steps}\n=> {wrong}\n"
        f"again: SEED={seed} SCHEDULES=1 {chosen}.venv/bin/pytest tests/model/test_schedules.py"
    )
