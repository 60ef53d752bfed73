"""Keeping programs alive: started in order, started again when they die, ended in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias

import structlog

from cli.embedded import process
from cli.embedded.process import Program
from shared.backoff import backoff_seconds

_PATIENCE_SECONDS: Final = 15.0

Start: TypeAlias = Callable[[], Awaitable[asyncio.subprocess.Process]]

log = structlog.get_logger()


class StackError(Exception):
    """The stack can't run; the message says why and what would help."""


class Supervisor:
    """Cancels the task that made it when a program can't be kept alive; `failure` then says why."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        owner = asyncio.current_task()
        assert owner is not None
        self._owner = owner
        self._settled = False
        self.failure: BaseException | None = None

    async def keep(self, program: Program, start: Start | None = None) -> None:
        """Start the program and keep it alive until the stack unwinds. Raises what `start` raises."""
        await self._stack.enter_async_context(self._kept(program, start or _plainly(program)))

    def settle(self) -> None:
        """Everything runs: from now on a program that ends is started again; until now that was a failure."""
        self._settled = True

    @asynccontextmanager
    async def _kept(self, program: Program, start: Start) -> AsyncIterator[None]:
        running = await start()

        async def keep() -> None:
            nonlocal running
            failures = 0
            while True:
                code = await running.wait()
                if not self._settled:
                    raise StackError(f"{program.name} ended with exit code {code} before the service was ready")
                failures += 1
                log.error("died, starting it again", program=program.name, exit_code=code)
                await asyncio.sleep(backoff_seconds(failures, 0.5, first=0.2))
                running = await start()

        def end(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                self.failure = task.exception()
                self._owner.cancel()

        keeper = asyncio.create_task(keep())
        keeper.add_done_callback(end)
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await process.stop(program, running, _PATIENCE_SECONDS)


def _plainly(program: Program) -> Start:
    async def start() -> asyncio.subprocess.Process:
        return await process.start(program)

    return start
