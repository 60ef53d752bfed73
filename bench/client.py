"""A client of the service for all that is not measured by a generator: single requests, and whole boards of scores.

Keeps the accounts of what was accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from api.http_protocol import KEEP_ALIVE_SECONDS
from bench.accounts import Accounts
from bench.traffic import Request
from bench.wrong import BrokenError

BATCH: Final = 5000
"""Scores in one request to the batch endpoint, as many as it takes."""

CONNECTIONS: Final = 3

_JSON: Final = {"Content-Type": "application/json"}
_IDLE_SECONDS: Final = KEEP_ALIVE_SECONDS / 2
"""A connection that rested longer may be just being closed by the service."""


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class _Result(msgspec.Struct):
    """Of a batch's answer what counts here."""

    queued: int


class Batch(NamedTuple):
    """A batch, encoded."""

    scores: int
    body: bytes


def encoded_batch(scores: Iterable[tuple[str, int]]) -> Batch:
    items = [{"userId": user_id, "delta": delta} for user_id, delta in scores]
    return Batch(len(items), msgspec.json.encode(items))


class Client:
    def __init__(self, session: aiohttp.ClientSession, accounts: Accounts) -> None:
        self._session = session
        self.accounts = accounts

    async def send(self, request: Request) -> Answer:
        """One request that must succeed, as BrokenError says otherwise."""
        status, content_type, body = await self._send(request.method, request.path, request.body.encode())
        if request.writes:
            self.accounts.accepted(request.path.split("/")[3])
        return Answer(status, content_type, body)

    async def get(self, path: str) -> Any:
        return msgspec.json.decode((await self._send("GET", path)).body)

    async def add(self, season_id: str, batch: Batch) -> None:
        """One batch of scores without keys, every one of which must be stored."""
        answer = await self._send("POST", f"/v1/seasons/{season_id}/scores/batch", batch.body)
        queued = msgspec.json.decode(answer.body, type=_Result).queued
        if queued != batch.scores:
            raise BrokenError(f"of a batch of {batch.scores} scores {queued} were stored: {answer.body[:300]!r}")
        self.accounts.accepted(season_id, queued)

    async def add_all(self, season_id: str, scores: Iterable[tuple[str, int]]) -> None:
        """Any number of scores, several batches at a time."""
        source = iter(scores)
        await self.add_batches(season_id, iter(lambda: encoded_batch(islice(source, BATCH)), Batch(0, b"[]")))

    async def add_batches(self, season_id: str, batches: Iterator[Batch]) -> None:
        """Until there is no more, over a few connections."""

        async def send_some() -> None:
            for batch in batches:
                await self.add(season_id, batch)

        await side_by_side(send_some() for _ in range(CONNECTIONS))

    async def _send(self, method: str, path: str, body: bytes = b"") -> Answer:
        headers = _JSON if body else None
        try:
            async with self._session.request(method, path, data=body or None, headers=headers) as response:
                answer = Answer(response.status, response.headers.get("Content-Type", ""), await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BrokenError(f"{method} {path}: {error or type(error).__name__}") from error
        if answer.status not in (200, 202):
            raise BrokenError(f"{method} {path} answered {answer.status} {answer.body[:300]!r}")
        return answer


async def side_by_side(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them at once. The first that fails ends the others, and its exception is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except ExceptionGroup as group:
        raise group.exceptions[0] from group


@asynccontextmanager
async def client_of(url: str, accounts: Accounts) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(keepalive_timeout=_IDLE_SECONDS)
    async with aiohttp.ClientSession(
        url, connector=connector, timeout=timeout, skip_auto_headers=["Content-Type"]
    ) as session:
        yield Client(session, accounts)
