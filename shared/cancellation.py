"""Noticing a cancellation that a library lost, where long work has a place to look."""

from __future__ import annotations

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError where the current task was cancelled and nothing was felt.

    Up to Python 3.11, asyncio.wait_for, with which psycopg waits, loses a cancellation that comes together with a
    result: of two in three that came while a board was rebuilt nothing was felt. The task still counts it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
