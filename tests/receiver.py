"""A receiver of webhooks, over TCP, that answers what the test says."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + "c2VjcmV0" * 5  # for tests alone
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def status(code, *headers):
    return "\r\n".join([f"HTTP/1.1 {code} x", "content-length: 0", *headers, "", ""]).encode()


class Received(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def webhook_id(self):
        return self.headers["webhook-id"]

    def verified(self, secret=SECRET):
        """What it says, if its signature is right; else an exception."""
        return Webhook(secret).verify(self.body, self.headers)


class Receiver:
    """`answers`: what it says to the next requests, None: nothing at all; then, and always, 200."""

    def __init__(self):
        self.received = []
        self.answers = []
        self.let_go = asyncio.Event()

    async def take(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await reader.readexactly(int(headers["content-length"]))
            self.received.append(Received(first.split(" ")[1], headers, body))
            answer = self.answers.pop(0) if self.answers else OK
            if answer is None:
                await self.let_go.wait()
                return
            writer.write(answer)
            await writer.drain()


@contextlib.asynccontextmanager
async def receiving(**options):
    """The receiver, and the port it is at."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0, **options)
    try:
        yield receiver, server.sockets[0].getsockname()[1]
    finally:
        receiver.let_go.set()
        server.close()
        await server.wait_closed()
