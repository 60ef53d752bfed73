"""Answering in time even where what was asked takes long to give up.

A cancelled psycopg statement first asks the server to cancel it and waits up to 10 s for that; a request can't.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_giving_up: Final[set[asyncio.Task[Any]]] = set()
"""Tasks past their deadline that still clean up; the event loop itself holds tasks only weakly."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns or raises; TimeoutError after `seconds`, while it is cancelled in the background."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            _giving_up.add(task)
            task.add_done_callback(_gave_up)
            task.cancel()
    if not task.done():
        raise TimeoutError(f"not done within {seconds:g} s")
    return task.result()


def _gave_up(task: asyncio.Task[Any]) -> None:
    _giving_up.discard(task)
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not complain: nobody waits for it any more
