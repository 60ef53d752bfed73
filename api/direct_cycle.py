"""A request that is answered without a task of its own, in the place of uvicorn's cycle.

For what games ask all the time: head and body are there as a whole before anything runs, and the endpoint awaits
nothing but futures. A task, ASGI's messages and the events between them would take as long as all the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from starlette.types import Scope

from api.answers import Answer
from api.endpoint import Endpoint, failed


class _Nobody:
    """In the place of an event that nobody waits for."""

    def set(self) -> None:
        pass


class DirectCycle:
    """What uvicorn's protocol and ours ask of a cycle, and `run`. `keep_alive`: the connection outlives the answer.
    `began`: when the request was there as a whole, seconds of a monotonic clock."""

    message_event: Final = _Nobody()

    __slots__ = (
        "_answered",
        "_coroutine",
        "began",
        "body",
        "disconnected",
        "endpoint",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
        "scope",
    )

    def __init__(self, scope: Scope, endpoint: Endpoint) -> None:
        self.scope = scope
        self.endpoint = endpoint
        self.began = 0.0
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.keep_alive = True
        self.response_started = False
        self.response_complete = False

    def run(self, coroutine: Coroutine[Any, Any, Answer], answered: Callable[[DirectCycle, Answer], None]) -> None:
        """Call `answered` with what the coroutine returns, at once or later."""
        self._coroutine = coroutine
        self._answered = answered
        self._step()

    def _step(self, done: asyncio.Future[Any] | None = None) -> None:
        """What a task does for its coroutine, but at once and without a context of its own."""
        del done  # its error would hold this frame, and this frame it: only the collector ends that
        try:
            self._await(self._coroutine.send(None))
        except StopIteration as returned:
            answer = returned.value
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = failed(self.scope, error)
        else:
            return
        answered = self._answered
        del self._answered, self._coroutine  # both know who knows this cycle
        answered(self, answer)

    def _await(self, future: asyncio.Future[Any] | None) -> None:
        if future is None:  # asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(self._step)
        else:
            # The protocol between a future and who awaits it: asyncio.futures.Future.__await__.
            future._asyncio_future_blocking = False  # noqa: SLF001
            future.add_done_callback(self._step)
