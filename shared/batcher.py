"""Group commit: requests that arrive while a flush is under way share the next one.

Generic; knows neither PostgreSQL nor Redis. Bounded: refused at once is what more than `max_waiting` items are in front
of, or what would wait for half its deadline or longer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.errors import DeadlineError, OverloadedError
from shared.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]]
"""Takes items, returns one result or exception for each in the same order; what it raises goes to all of them."""


class Batcher(Generic[Item, Result]):
    """Collects items of one event loop and flushes up to `max_batch` together, `concurrency` flushes at a time."""

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        max_batch: int,
        concurrency: int,
        max_waiting: int,
        deadline_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._pace = Pace(max_batch=max_batch, concurrency=concurrency)
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._flushes: set[asyncio.Task[None]] = set()
        self._start_scheduled = False

    async def submit(self, item: Item) -> Result:
        """The item's result.

        Raises OverloadedError at once when too many wait or the wait would be too long, DeadlineError when the time is
        up (an item not yet flushed by then never will be), or what the flush said.
        """
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()  # who gave up takes no place; deadlines pass in the order of arrival
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError(f"{self._max_waiting} requests wait already; try again shortly")
        # Half: the other half is for its own flush, and for those in front that take longer than the ones before them.
        wait_seconds = self._pace.wait_seconds(len(self._waiting), self._clock())
        if wait_seconds >= self._deadline_seconds / 2:
            raise OverloadedError(f"{wait_seconds:.1f} s would pass before this request's turn; try again shortly")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if not self._start_scheduled and len(self._flushes) < self._concurrency:
            # Not at once: what else this turn of the loop brings shares the flush.
            self._start_scheduled = True
            loop.call_soon(self._start)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await future
        except TimeoutError as error:
            raise DeadlineError(
                f"not done within {self._deadline_seconds:g} s; whether it happened is unknown, try again shortly"
            ) from error

    async def drain(self) -> None:
        """Wait until everything that was submitted has been flushed."""
        while self._flushes or self._start_scheduled:
            await asyncio.gather(*self._flushes)
            await asyncio.sleep(0)

    def _start(self) -> None:
        self._start_scheduled = False
        while self._waiting and len(self._flushes) < self._concurrency:
            batch = self._next_batch()
            if batch:
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._flushes.add(task)
                task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._start()

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(batch) < self._max_batch:
            entry = self._waiting.popleft()
            if not entry[1].done():  # its deadline passed, or its client was cancelled
                batch.append(entry)
        return batch

    async def _run(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        flush = self._pace.started(self._clock())
        try:
            results = await self._flush([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiting request must hear of it
            results = [error] * len(batch)
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        finally:
            self._pace.finished(flush, self._clock())
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
