"""A TCP proxy between a process and its server, which breaks in the ways that networks do, when told so.

It runs in the test's event loop and looks at bytes only; what they mean is the scenario's business.
"""

from __future__ import annotations

import asyncio
import contextlib

_CHUNK = 256 * 1024


class Proxy:
    """Listens on a port of its own and passes on to `target` (host, port), which may be changed for new connections."""

    def __init__(self, target):
        self.target = target
        self.port = 0
        self._to_lose = self._awaited = 0
        self._match = b""
        self._reached = asyncio.Event()
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks = set()
        self._server = None

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def lose_replies(self, times, match=b""):
        """The next `times` requests (that hold `match`) reach the server; instead of its reply the connection breaks.

        Returns once so many replies were swallowed; where the server sent none, another request's is.
        """
        self._to_lose, self._awaited, self._match = times, times, match
        self._reached.clear()
        await self._reached.wait()

    def hold(self):
        """From now on connections, old and new, are accepted and open, and not a byte gets through."""
        self._passing.clear()

    def heal(self):
        """New connections pass again. Those from before stay silent for good, as behind a router that forgot them."""
        self._passing = asyncio.Event()
        self._passing.set()

    def cut(self):
        """Break every connection."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        upstream_writer = None
        try:
            passing = self._passing
            await passing.wait()
            upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
            cut_off, swallowed = asyncio.Event(), asyncio.Event()
            ends = [
                asyncio.ensure_future(self._requests(reader, upstream_writer, passing, cut_off)),
                asyncio.ensure_future(self._replies(upstream_reader, writer, passing, cut_off, swallowed)),
            ]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
                await asyncio.gather(*ends, return_exceptions=True)
                if cut_off.is_set() and not swallowed.is_set():
                    self._to_lose += 1  # it went away without a reply: a good-bye, or its client gave up
        except (OSError, asyncio.CancelledError):
            pass  # a broken connection is what this is for
        finally:
            self._tasks.discard(task)
            for one in (writer, upstream_writer):
                if one is not None:
                    with contextlib.suppress(OSError):
                        one.transport.abort()

    async def _requests(self, reader, upstream_writer, passing, cut_off):
        while data := await reader.read(_CHUNK):
            await passing.wait()
            if self._to_lose and not cut_off.is_set() and self._match in data:
                self._to_lose -= 1
                cut_off.set()
            upstream_writer.write(data)
            await upstream_writer.drain()

    async def _replies(self, upstream_reader, writer, passing, cut_off, swallowed):
        while data := await upstream_reader.read(_CHUNK):
            await passing.wait()
            if cut_off.is_set():
                # The server has answered, so it did what it was asked to.
                swallowed.set()
                self._awaited -= 1
                if self._awaited <= 0:
                    self._reached.set()
                return
            writer.write(data)
            await writer.drain()
