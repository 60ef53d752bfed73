"""Starting the open-loop generator of bench/paced.py beside something that is measured."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec

from bench.paced import Orders, Paced
from bench.processes import first_line, running
from bench.wrong import BrokenError

HELD: Final = 0.97
"""Of the rate wanted: below, the generator did not keep its pace."""


class Pacing:
    """`paced` is there once the load has ended."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._paced: Paced | None = None

    @property
    def paced(self) -> Paced:
        assert self._paced is not None
        return self._paced

    @property
    def rate(self) -> float:
        """Scores a second that were really sent, and accepted."""
        return self.paced.accepted / self.paced.seconds

    @property
    def held(self) -> bool:
        """Whether the generator kept its pace; if not, neither it nor the service can be trusted."""
        return self._orders.rate == 0 or self.rate >= HELD * self._orders.rate

    def ended(self, told: bytes) -> None:
        if not told:
            raise BrokenError("the open-loop generator broke off; what it says stands above")
        self._paced = msgspec.json.decode(told, type=Paced)
        if self._paced.failed:
            raise BrokenError(f"{self._paced.failed} scores or probes of the open-loop generator failed")


@asynccontextmanager
async def pacing(orders: Orders) -> AsyncIterator[Pacing]:
    """The load runs while the block does. Raises BrokenError when anything fails."""
    load = Pacing(orders)
    async with running([sys.executable, "-m", "bench.paced"], stdin=asyncio.subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        if await first_line(process) != "started":
            raise BrokenError("the open-loop generator did not start; what it says stands above")
        yield load
        process.stdin.close()  # its sign to end
        told, _ = await process.communicate()
        load.ended(told)
