"""Sending a webhook: one POST, one answer's head, one deadline for all of it.

On asyncio's streams with h11, which uvicorn brings along: the address that was judged is the one that is connected to,
nothing is redirected, and no thread waits for a receiver that does not answer.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

import h11

from shared.deliveries import Delivery
from shared.errors import InvalidRequestError
from shared.webhook_signature import signature
from shared.webhook_targets import Reach, Target, may_go, target_of

_DEADLINE_SECONDS: Final = 10.0
_MAX_HEAD_BYTES: Final = 16_384
_CHUNK: Final = 16_384
_GONE: Final = 410
_USER_AGENT: Final = "season-leaderboard-webhooks/1"


class NotTakenError(Exception):
    """The receiver did not take it; the message says why. `for_good`: it asks for no more."""

    def __init__(self, message: str, *, for_good: bool = False) -> None:
        super().__init__(message)
        self.for_good = for_good


class WebhookPost:
    def __init__(self, secrets: Sequence[bytes], reach: Reach) -> None:
        self._secrets = secrets
        self._reach = reach

    async def send(self, delivery: Delivery) -> None:
        """Return once the receiver has taken it. Raises NotTakenError."""
        if not self._secrets:
            raise NotTakenError("WEBHOOK_SECRET is not set: nothing can be signed")
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                status = await self._post(target_of(delivery.url, self._reach), delivery)
        except TimeoutError:
            raise NotTakenError(f"no answer within {_DEADLINE_SECONDS:g} s") from None
        except InvalidRequestError as error:
            raise NotTakenError(str(error)) from error
        except h11.RemoteProtocolError as error:
            raise NotTakenError(f"the answer is not HTTP: {error}") from error
        except OSError as error:
            raise NotTakenError(str(error) or type(error).__name__) from error
        except Exception as error:
            # A bug, or what an answer makes a library raise: it costs this delivery an attempt, and no other anything.
            raise NotTakenError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            raise NotTakenError(f"answered with {status}", for_good=status == _GONE)

    async def _post(self, target: Target, delivery: Delivery) -> int:
        """The answer's status."""
        reader, writer = await self._connected(target)
        try:
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
            head = h11.Request(method="POST", target=target.resource, headers=self._headers(target, delivery))
            for event in (head, h11.Data(data=delivery.body), h11.EndOfMessage()):
                writer.write(http.send(event) or b"")
            await writer.drain()
            while True:
                found = http.next_event()
                if isinstance(found, h11.Response):
                    return found.status_code
                if found is h11.NEED_DATA:
                    http.receive_data(await reader.read(_CHUNK))
        finally:
            writer.close()

    async def _connected(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]) for *_, sockaddr in found if may_go(str(sockaddr[0]), self._reach)]
        refusal: OSError = ConnectionRefusedError(
            f"{target.host} is at no public address; WEBHOOK_TARGETS=any allows others, but none that is link-local"
        )
        secure = {"ssl": self._context, "server_hostname": target.host} if target.secure else {}
        for address in addresses:
            try:
                return await asyncio.open_connection(address, target.port, **secure)  # type: ignore[arg-type]
            except OSError as error:
                refusal = error
        raise refusal

    def _headers(self, target: Target, delivery: Delivery) -> list[tuple[str, str]]:
        seconds = int(time.time())
        return [
            ("host", target.authority),
            ("content-type", "application/json"),
            ("content-length", str(len(delivery.body))),
            ("user-agent", _USER_AGENT),
            ("connection", "close"),
            ("webhook-id", delivery.webhook_id),
            ("webhook-timestamp", str(seconds)),
            ("webhook-signature", signature(self._secrets, delivery.webhook_id, seconds, delivery.body)),
        ]

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context()
