"""HTTP/1.1 over connections that are kept, at next to no cost per request: for load that is made in Python."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)

Answered = Callable[[int, float], None]
"""Is told the status of an answer, 0 when the connection broke, and when it came (monotonic seconds)."""


class Connection(asyncio.Protocol):
    """One request at a time. `idle` is told when another may be sent."""

    def __init__(self, idle: Callable[[Connection], None], lost: Callable[[Connection], None]) -> None:
        self._idle = idle
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answered: Answered | None = None

    def ask(self, request: bytes, answered: Answered) -> None:
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = _CONTENT_LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        self._received = b""
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(int(head[9:12]), time.monotonic())
        self._idle(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._lost(self)
        if self._answered is not None:
            self._answered(0, time.monotonic())


class Connections:
    """A number of connections to one server; requests wait their turn where all are busy."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[bytes, Answered]] = deque()

    async def open(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(number):
            _, connection = await loop.create_connection(lambda: Connection(self._next, self._drop), *self._address)
            self._all.add(connection)
            self._idle.append(connection)

    def ask(self, request: bytes, answered: Answered) -> None:
        if self._idle:
            self._idle.pop().ask(request, answered)
        elif self._all:
            self._waiting.append((request, answered))
        else:
            answered(0, time.monotonic())

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _next(self, connection: Connection) -> None:
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
