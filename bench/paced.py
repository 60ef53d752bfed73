"""Open-loop load: scores at a fixed rate, whether answers come or not, and beside them probes of how soon a score can
be seen. `python -m bench.paced` reads Orders, one line of JSON, says "started", and stops at the end of its input;
once every answer is there it prints a Paced.

A process of its own, and little work per request: what it takes of the processor the service can't have.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from bench.figures import percentiles_ms
from bench.traffic import rank_of, read_file, score
from bench.wire import Connections

_TICK_SECONDS: Final = 0.001
_ASK_AGAIN_SECONDS: Final = 0.0025
_CONNECTIONS: Final = 128
_GIVE_UP_SECONDS: Final = 20.0
"""After which an answer, or a score on the board, is taken for lost."""


class Orders(msgspec.Struct):
    """`requests`: a file of scores, sent in turn `rate` times a second. `probes` a second, each one point in
    `season_id` for a player who was never seen before; their ids begin with `probe_prefix`."""

    host: str
    port: int
    rate: float
    requests: str
    probes: float = 0.0
    probe_prefix: str = ""
    season_id: str = ""


class Paced(msgspec.Struct):
    """What was done. `latency_ms` begins when a request was due; `late_ms`: when it was sent, because this process had
    no time; `visible_after`, seconds: from a probe's 202 until its rank is answered."""

    seconds: float
    accepted: int
    failed: int
    probes_accepted: int
    latency_ms: dict[str, float]
    late_ms: dict[str, float]
    visible_after: list[float]


class Pacer:
    def __init__(self, orders: Orders, connections: Connections) -> None:
        self._orders = orders
        self._connections = connections
        self._host = f"{orders.host}:{orders.port}"
        self._under_way = 0
        self._failed = 0
        self._probes_accepted = 0
        self._latencies: list[float] = []
        self._late: list[float] = []
        self._visible_after: list[float] = []

    async def run(self, stop: asyncio.Event) -> Paced:
        """Send until `stop` is set, then wait for what is under way."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            if self._orders.rate:
                tasks.create_task(self._write(started, stop))
            if self._orders.probes:
                tasks.create_task(self._probe_all(started, stop))
            await stop.wait()
            seconds = time.monotonic() - started
        give_up_at = time.monotonic() + _GIVE_UP_SECONDS
        while self._under_way and time.monotonic() < give_up_at:
            await asyncio.sleep(_TICK_SECONDS)
        return Paced(
            seconds,
            len(self._latencies),
            self._failed + self._under_way,
            self._probes_accepted,
            percentiles_ms(self._latencies),
            percentiles_ms(self._late),
            self._visible_after,
        )

    async def _write(self, started: float, stop: asyncio.Event) -> None:
        requests = cycle([request.encoded(self._host) for request in read_file(Path(self._orders.requests))])
        rate, sent = self._orders.rate, 0
        while not stop.is_set():
            now = time.monotonic()
            while (due := started + sent / rate) <= now:
                self._late.append(now - due)
                self._send(next(requests), due)
                sent += 1
            await asyncio.sleep(_TICK_SECONDS)

    def _send(self, request: bytes, due: float) -> None:
        def answered(status: int, now: float) -> None:
            self._under_way -= 1
            if status == 202:
                self._latencies.append(now - due)
            else:
                self._failed += 1

        self._under_way += 1
        self._connections.ask(request, answered)

    async def _probe_all(self, started: float, stop: asyncio.Event) -> None:
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                tasks.create_task(self._probe(f"{self._orders.probe_prefix}{number}"))
                number += 1
                await asyncio.sleep(started + number / self._orders.probes - time.monotonic())

    async def _probe(self, user_id: str) -> None:
        request = score(self._orders.season_id, user_id, 1)
        status, accepted_at = await self._ask(request.encoded(self._host))
        if status != 202:
            self._failed += 1
            return
        self._probes_accepted += 1
        question = rank_of(self._orders.season_id, user_id).encoded(self._host)
        now = accepted_at
        while now < accepted_at + _GIVE_UP_SECONDS:
            asked_at = time.monotonic()
            status, now = await self._ask(question)
            if status == 200:
                self._visible_after.append(now - accepted_at)
                return
            if status != 404:
                break
            await asyncio.sleep(asked_at + _ASK_AGAIN_SECONDS - time.monotonic())
        self._failed += 1

    async def _ask(self, request: bytes) -> tuple[int, float]:
        future: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        self._connections.ask(request, lambda status, now: future.set_result((status, now)))
        return await future


async def follow(orders: Orders) -> Paced:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, stop.set)  # only its end is left to come
    connections = Connections(orders.host, orders.port)
    await connections.open(_CONNECTIONS)
    print("started", flush=True)
    try:
        return await Pacer(orders, connections).run(stop)
    finally:
        connections.close()
        loop.remove_reader(sys.stdin)


if __name__ == "__main__":
    told = uvloop.run(follow(msgspec.json.decode(sys.stdin.readline(), type=Orders)))
    sys.stdout.buffer.write(msgspec.json.encode(told))
