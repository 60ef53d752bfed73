"""Group commit: requests that arrive while a flush is under way share the next one.

Generic; knows neither PostgreSQL nor Redis. Bounded: refused at once is what more than `max_waiting` items are in front
of, or what would wait for half its deadline or longer. One timer serves all deadlines: it is on every path.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from shared.errors import DeadlineError, OverloadedError
from shared.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]]
"""Takes items, returns one result or exception for each in the same order; what it raises goes to all of them."""

_PATIENCE_SECONDS: Final = 0.05
"""A flush that takes longer no longer keeps those who wait from flushing beside it."""

_ENOUGH: Final = 16
"""Items for which a flush no longer lingers: another one in it would hardly make it cheaper per item."""

_LAST: Final = 8
"""Flushes by which is judged how many items come together."""

_TURNS: Final = 6
"""Of the event loop before a flush begins: what has arrived on other connections by then shares it. No time is lost by
it; a pause of milliseconds in its place left the processor idle."""


class Batcher(Generic[Item, Result]):
    """Collects items of one event loop and flushes up to `max_batch` together.

    A flush costs much and an item in it little, so a second one begins beside the first only where a whole batch waits
    or the first is slow; `concurrency` bounds them. Behind a flush the next one waits, for `linger_seconds` at most,
    for as many as came together lately, be they those who were answered and ask again: not at all for who asks alone.
    """

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        max_batch: int,
        concurrency: int,
        max_waiting: int,
        deadline_seconds: float,
        linger_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flush = flush
        self._max_batch = max_batch
        self._concurrency = concurrency
        self._max_waiting = max_waiting
        self._deadline_seconds = deadline_seconds
        self._linger_seconds = linger_seconds
        self._lingering: asyncio.TimerHandle | None = None
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it costs a system call
        self._pace = Pace(max_batch=max_batch, concurrency=concurrency)
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._deadlines: deque[tuple[float, asyncio.Future[Result]]] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._newest_started = 0.0
        self._came_together: deque[int] = deque(maxlen=_LAST)
        self._company = 1  # that is waited for
        self._start_scheduled = False

    def submit(self, item: Item) -> asyncio.Future[Result]:
        """The item's result, to be awaited.

        Raises OverloadedError when too many wait or the wait would be too long. The future raises DeadlineError when
        the time is up (an item not yet flushed by then never will be), or what the flush said. Who waits no longer
        cancels it.
        """
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()  # who gave up takes no place; deadlines pass in the order of arrival
        if len(waiting) >= self._max_waiting:
            raise OverloadedError(f"{self._max_waiting} requests wait already; try again shortly")
        # Half: the other half is for its own flush, and for those in front that take longer than the ones before them.
        wait_seconds = self._pace.wait_seconds(len(waiting), self._clock())
        if wait_seconds >= self._deadline_seconds / 2:
            raise OverloadedError(f"{wait_seconds:.1f} s would pass before this request's turn; try again shortly")
        loop = self._loop = self._loop or asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        waiting.append((item, future))
        self._expire_later(loop, future)
        if not self._start_scheduled:
            self._start_soon(loop)
        return future

    async def drain(self) -> None:
        """Wait until everything that was submitted has been flushed."""
        while self._flushes or self._start_scheduled or (self._lingering and self._waiting):
            await asyncio.gather(*self._flushes)
            await asyncio.sleep(0)

    def _may_flush(self, loop: asyncio.AbstractEventLoop) -> bool:
        under_way = len(self._flushes)
        if under_way == 0:
            return self._lingering is None or len(self._waiting) >= self._company
        return under_way < self._concurrency and (
            len(self._waiting) >= self._max_batch or loop.time() >= self._newest_started + _PATIENCE_SECONDS
        )

    def _start_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._waiting and not self._start_scheduled and self._may_flush(loop):
            self._start_scheduled = True
            loop.call_soon(self._start, _TURNS)

    def _start(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._start, turns - 1)
            return
        self._start_scheduled = False
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        self._flush_what_may()

    def _flush_what_may(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting and self._may_flush(loop):
            batch = self._next_batch()
            if batch:
                task = loop.create_task(self._run(batch))
                self._flushes.add(task)
                self._newest_started = loop.time()
                patience = loop.call_later(_PATIENCE_SECONDS, self._flush_what_may)
                task.add_done_callback(partial(self._finished, patience))

    def _finished(self, patience: asyncio.TimerHandle, task: asyncio.Task[None]) -> None:
        loop = task.get_loop()
        patience.cancel()
        self._flushes.discard(task)
        if self._linger_seconds and self._company > 1 and not self._flushes and not self._start_scheduled:
            self._lingering = loop.call_later(self._linger_seconds, self._start, 0)
        self._start_soon(loop)

    def _expire_later(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result]) -> None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][1].done():
            deadlines.popleft()
        deadlines.append((loop.time() + self._deadline_seconds, future))
        if self._expiry is None:
            self._expiry = loop.call_at(deadlines[0][0], self._expire)

    def _expire(self) -> None:
        self._expiry = None
        loop = asyncio.get_running_loop()
        while self._deadlines and (self._deadlines[0][1].done() or self._deadlines[0][0] <= loop.time()):
            future = self._deadlines.popleft()[1]
            if not future.done():
                told = f"not done within {self._deadline_seconds:g} s; it may have happened or not, try again shortly"
                future.set_exception(DeadlineError(told))
        if self._deadlines:
            self._expiry = loop.call_at(self._deadlines[0][0], self._expire)

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
        # Before those who are answered can come back: they would be counted twice.
        self._came_together.append(len(batch) + len(self._waiting))
        self._company = min(_ENOUGH, max(self._came_together))
        _answer(batch, results)
        del batch, results  # as in `submit`


def _answer(batch: list[tuple[Item, asyncio.Future[Result]]], results: Sequence[Result | Exception]) -> None:
    for (_, future), result in zip(batch, results, strict=True):
        if future.done():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
