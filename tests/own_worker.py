"""A worker in the test's own process."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from worker.app import run_worker


@contextlib.asynccontextmanager
async def working(settings):
    """It stops in the end; where that takes long, it does not end the process, which is the test's."""
    stop = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.app._leave", lambda: None)
        worker = asyncio.create_task(run_worker(settings, stop))
        try:
            yield
        finally:
            stop.set()
            await worker
