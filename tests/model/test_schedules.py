"""100,000 schedules of crashes, losses, late writes, fail-overs and clock steps: every one ends with boards == ledger.

SEED=… and SCHEDULES=… choose others than those of every run, VARIANT=… one of the wrong variants.
"""

from __future__ import annotations

import os

import pytest
from model.schedules import explain, run_all

SEED = int(os.environ.get("SEED", "1"))
SCHEDULES = int(os.environ.get("SCHEDULES", "100000"))
VARIANT = os.environ.get("VARIANT") or None


@pytest.mark.timeout(0)
def test_every_schedule_ends_with_boards_that_equal_the_ledger(capsys):
    outcome = run_all(SEED, SCHEDULES, VARIANT)
    with capsys.disabled():
        print(f"\n{SCHEDULES} schedules from SEED={SEED}: {dict(outcome.verdicts)}")
    if outcome.divergent:
        pytest.fail(f"{len(outcome.divergent)} of {SCHEDULES} ended wrong; {explain(outcome.divergent[0], VARIANT)}")
    if SCHEDULES >= 1000:  # every answer of a board was needed, and often
        for verdict in ("applied", "behind", "late", "moved", "stored"):
            assert outcome.verdicts[verdict] > SCHEDULES / 50


def test_a_schedule_is_told_by_its_seed():
    assert explain(7) == explain(7)
    assert explain(7) != explain(8)
