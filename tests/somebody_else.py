"""A server that is not the service, for what that does not say or look at."""

from __future__ import annotations

import asyncio
import contextlib
import itertools


@contextlib.asynccontextmanager
async def somebody_else(*told):
    """Answers requests in this order, the last one over and over: each a status, a text (or bytes that are none) and,
    where the connection is to end before its end, how many more bytes were announced.

    Yields the base URL and what was sent: of each request its head, and its body.
    """
    sent, answers = [], itertools.chain(told, itertools.repeat(told[-1]))

    async def answer(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length: ")[2].partition("\r\n")[0]
        sent.append((head, await reader.readexactly(int(length or 0))))
        status, text, *missing = next(answers)
        body = text if isinstance(text, bytes) else text.encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body) + sum(missing)}\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent
