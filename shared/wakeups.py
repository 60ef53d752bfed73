"""Telling idle workers that events were committed, so that these need not wait for the next poll.

A hint: it may be lost, late, or come twice. Polling is the guarantee. Why over Redis: docs/decisions/0013-wakeups.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from shared import keys
from shared.redis_client import Client
from shared.subscription import follow

_SPACING_SECONDS: Final = 0.01
"""Between two hints of a process. A worker at work finds what came meanwhile by itself."""

_AT_WORK_SECONDS: Final = 0.02
"""So much longer where several commits came meanwhile: those keep a worker at work, and a hint takes each side a tenth
of a millisecond of processor time."""


class Wakeups:
    """The side that commits. One message tells of all that was committed before it was sent."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._untold = 0
        self._telling: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Events were committed just now. Neither waits nor fails, whatever Redis does."""
        self._untold += 1
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell())

    async def aclose(self) -> None:
        """What is not told yet stays so."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.gather(self._telling, return_exceptions=True)

    async def _tell(self) -> None:
        try:
            while self._untold:
                self._untold = 0
                with contextlib.suppress(RedisError, OSError):
                    await self._client.publish(keys.WAKEUPS, "")
                await asyncio.sleep(_SPACING_SECONDS)
                if self._untold > 1:
                    await asyncio.sleep(_AT_WORK_SECONDS)
        finally:
            self._telling = None


async def follow_wakeups(client: Client, heard: Callable[[], None]) -> None:
    """Call `heard` at each hint until cancelled, and whenever hints may have been missed before."""
    await follow(client, keys.WAKEUPS, heard=lambda _message: heard(), opened=heard)
