"""Boards as of a moment, by snapshots and what came since, against brute force over the ledger."""

from __future__ import annotations

import random

import pytest
from past_boards import History, all_rules, assert_equal_at


@pytest.mark.parametrize("rules", all_rules(), ids=lambda rules: " ".join(map(str, rules)))
async def test_boards_at_every_moment_are_what_the_ledger_says(pool, rules):
    rng = random.Random(str(rules))
    kept = 0
    async with pool.connection() as conn:
        for number in range(3):
            history = History(conn, f"season-{number}", rules, rng)
            await history.begin()
            for _ in range(40):
                await history.step()
            for moment in rng.sample(history.moments, 16):
                await assert_equal_at(conn, history, moment, rng)
            kept += history.snapshots
    assert kept > 5
