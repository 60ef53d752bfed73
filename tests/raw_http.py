"""HTTP over a socket, for what no client would send."""

from __future__ import annotations

import asyncio
import json
import socket
from urllib.parse import urlsplit


class Connection:
    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    def send(self, data):
        self._writer.write(data)

    async def flood(self, data):
        """Send it over and over, as fast as the kernel takes it, and read nothing."""
        while True:
            self._writer.write(data)
            await self._writer.drain()

    async def head(self):
        """Status and headers of the next answer."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        return int(head[0].split()[1]), dict(line.lower().split(": ", 1) for line in head[1:-2])

    async def answer(self):
        """Status, headers and body of the next answer."""
        status, headers = await self.head()
        return status, headers, json.loads(await self._reader.readexactly(int(headers["content-length"])))

    async def closed(self):
        """True once the server has closed and nothing more came."""
        try:
            return await self._reader.read() == b""
        except ConnectionResetError:
            return True

    def leave(self):
        """Be gone, without a word."""
        self._writer.transport.abort()


async def connection_with(base_url, data):
    """A connection on which this has come by the time that a server in this event loop takes it."""
    url = urlsplit(str(base_url))
    client = socket.create_connection((url.hostname, url.port))
    client.sendall(data)
    client.setblocking(False)
    return Connection(*await asyncio.open_connection(sock=client))


async def connection_to(base_url):
    url = urlsplit(str(base_url))
    return Connection(*await asyncio.open_connection(url.hostname, url.port))
