"""A worker's side tasks: whatever one of them raises, it is run again."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from worker.upkeep import every


async def test_a_bug_is_told_once_and_the_task_is_run_again():
    stop, outcomes = asyncio.Event(), [ValueError, UnicodeError, OSError, None, KeyError]

    async def task():
        outcome = outcomes.pop(0)
        if not outcomes:
            stop.set()
        if outcome is not None:
            raise outcome("what it says")
        return 0.0

    with capture_logs() as lines:
        await every(0, task, stop)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("upkeep failed", "error"),
        ("upkeep put off", "warning"),
        ("upkeep failed", "error"),
    ]


async def test_a_task_that_is_cancelled_ends():
    started = asyncio.Event()

    async def task():
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(every(0, task, asyncio.Event()))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
