"""Answers that stay open: what they say is written from outside their request's task, which only waits for their end.

Offered by our HTTP protocol beside ASGI's messages: a message, a join and the waking of a task for each of thousands of
clients take several times as long as the write itself. A client that does not keep up is not written to before it does,
and cut where it does not within `api.http_protocol.WRITE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final
from weakref import ref

from starlette.types import Scope, Send
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.http_protocol import BoundedHttpProtocol

_KEY: Final = "leaderboard.open_answers"

_SEND_BUFFER_BYTES: Final = 64 * 1024
"""In the kernel, which by itself would keep megabytes for each client that does not read."""

_UNACKNOWLEDGED_MS: Final = 30_000
"""A client that has taken nothing for so long, though there was something, is gone or does not read (RFC 5482)."""


class OpenAnswer:
    """`over` is done once the client has left, the process stops or `end` was called."""

    __slots__ = ("_flow", "_transport", "caught_up", "over")

    def __init__(self, transport: asyncio.Transport, flow: FlowControl) -> None:
        self._transport = transport
        self._flow = flow
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.caught_up: Callable[[], None] = _nothing
        """Called when the client reads again."""

    @property
    def takes_more(self) -> bool:
        """Whether to write now: else it is over, or the client does not keep up."""
        return not self._flow.write_paused and not self.over.done()

    def write(self, chunks: bytes) -> None:
        """Send whole chunks of the body (RFC 9112, 7.1)."""
        self._transport.write(chunks)

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    async def cut(self) -> None:
        """End the connection in the middle of the body, which so can't be taken for whole."""
        self._transport.abort()
        await asyncio.sleep(0)  # by then the connection knows

    async def finish(self, send: Send) -> None:
        """End the body behind what was written; a client that is behind is not waited for."""
        self.caught_up = _nothing  # who calls it, it knows
        await asyncio.sleep(0)  # what was written in this turn has not even been tried
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class OpenAnswersProtocol(BoundedHttpProtocol):
    """One connection. `_open` is its answer that stays open, where there is one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._itself = ref(self)
        self._open: OpenAnswer | None = None
        self._stops = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.scope[_KEY] = self._itself  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    def hold_open(self) -> OpenAnswer:
        """For the request that is being answered."""
        answer = OpenAnswer(self.transport, self.flow)
        if self._stops or self.transport.is_closing():
            answer.end()
            return answer
        own = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        self._open = answer
        return answer

    def on_response_complete(self) -> None:
        self._open = None
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end_open()

    def shutdown(self) -> None:
        super().shutdown()
        self._stops = True
        self._end_open()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._open is not None:
            self._open.caught_up()

    def _end_open(self) -> None:
        if self._open is not None:
            self._open.end()
            self._open = None


def hold(scope: Scope) -> OpenAnswer:
    """Keep the answer to this request open, whose head is to be sent next."""
    protocol: OpenAnswersProtocol | None = scope[_KEY]()
    assert protocol is not None  # its connection's socket holds it, and then the task that answers
    return protocol.hold_open()


def _nothing() -> None:
    pass
