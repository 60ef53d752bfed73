"""Scenarios: each is run for a number of rounds under load, judged, and listed in a table at the end of the run.

FAULTS=long makes the rounds many (`make faults`); FAULTS_SEED repeats a run's decisions, `-k` picks scenarios.
FAULTS_SEASONS=windows has the scenarios write to seasons with windows, where they don't say what their seasons are.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from faults.choices import LONG, SEASONS, SEED
from faults.load import Load
from faults.stack import Stack
from faults.table import PROPERTY
from shared.scores import PLAIN, Rules

WINDOWED = (
    Rules("sum", windows=True, tie_break="earliest"),
    Rules("best", windows=True, tie_break="earliest"),
    Rules("latest", windows=True),
)
RULES = {"plain": (PLAIN,) * 3, "windows": WINDOWED}[SEASONS]


class Run:
    """One scenario's run: its random numbers, its stack, and the count of what was done to it."""

    def __init__(self, name, folder):
        self.name = name
        self.rng = random.Random(f"{SEED} {name}")
        self.faults = 0
        self.acked = self.lost = self.doubled = 0
        self.told = {}
        self.folder = folder
        self.listed = False

    def rounds(self, short, long):
        """How many rounds this run has; each is a fault more."""
        for _ in range(long if LONG else short):
            yield
            self.faults += 1

    def acks(self, short, long):
        """How many acknowledged scores to let pass, around the number of this kind of run."""
        around = long if LONG else short
        return self.rng.randrange(around // 2, around * 3 // 2)

    @asynccontextmanager
    async def under_load(self, *, load=None, patience_seconds=30.0, **stack_options):
        """A stack and clients that write to it; at the end all of it is judged."""
        self.listed = True
        async with Stack(self.folder, **stack_options) as stack:
            try:
                # Numbers of their own: in which order the writers draw is for the network to say.
                draws = random.Random(f"{SEED} {self.name} load")
                async with Load(draws, stack.ports, **{"rules": RULES, **(load or {})}) as writing:
                    yield stack, writing
                await self.judge(stack, writing.history, patience_seconds)
            except BaseException:
                print(f"{self.replay()}\n{stack.logs()}")
                raise

    async def judge(self, stack, history, patience_seconds=30.0):
        """Drain, compare, count; fails on anything lost or doubled."""
        verdict = await stack.judged(history, patience_seconds)
        self.acked += verdict.acked
        self.require(verdict)

    def require(self, verdict):
        self.lost += verdict.lost
        self.doubled += verdict.doubled
        assert not verdict.notes, "\n".join([f"{len(verdict.notes)} differences", *verdict.notes[:20]])

    def tell(self, **figures):
        """Figures for the table's last column."""
        self.told.update(figures)

    def tell_most(self, name, value):
        """The largest of all rounds."""
        self.told[name] = max(value, self.told.get(name, value))

    def figures(self):
        """For the table of all scenarios."""
        return {name: getattr(self, name) for name in ("name", "faults", "acked", "lost", "doubled", "told")}

    def replay(self):
        length = "long" if LONG else "short"
        told = f"FAULTS_SEED={SEED} FAULTS={length} FAULTS_SEASONS={SEASONS}"
        return f"replay with: {told} pytest tests/faults -k {self.name}"


@pytest.fixture
def run(request, scratch, tmp_path_factory, record_property):
    folder = scratch / tmp_path_factory.mktemp("faults").name
    folder.mkdir(mode=0o711)
    run = Run(request.node.name.removeprefix("test_"), folder)
    yield run
    if run.listed:
        record_property(PROPERTY, run.figures())


def pytest_report_header():
    return f"faults: {'long' if LONG else 'short'} rounds, seasons {SEASONS}, FAULTS_SEED={SEED}"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and LONG and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))
