"""How long do a thousand who wait at once for their scores to be on the board wait, and what do they cost PostgreSQL?

Starts `leaderboard run` on servers of its own and one more API process beside it, whose statements are counted. A round
is a request on each of as many connections, all sent at once. Prints a line for each kind; takes half a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
import msgspec
import uvicorn
import uvloop

from api.app import create_app
from api.direct_protocol import DirectHttpProtocol
from api.http_protocol import SERVER_HEADERS
from api.visibility import Visibility
from bench.processes import first_line, running
from bench.stack import Stack, service
from cli.embedded.memory import free_port
from shared import open_files
from shared.logs import configure_logs
from shared.settings import load_service_settings

SEASON: Final = "waits"
WAIT_MS: Final = 2000
BATCH: Final = 5000
KINDS: Final = ("posts that do not wait", "posts", "reads")


class Told(msgspec.Struct, rename="camel"):
    event_id: str = ""
    pending: bool = False


class Connection(asyncio.Protocol):
    """One request at a time, and how long it took, in milliseconds."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._answer: asyncio.Future[tuple[float, Told]] | None = None
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, method: str, path: str, body: bytes = b"") -> asyncio.Future[tuple[float, Told]]:
        self._answer = asyncio.get_running_loop().create_future()
        length = f"content-length: {len(body)}\r\n" if body else ""
        self._sent = time.monotonic()
        self._transport.write(f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\n{length}\r\n".encode() + body)
        return self._answer

    def data_received(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        assert self._answer is not None
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 202")):
            self._answer.set_exception(SystemExit(f"answered {data[:300]!r}"))
            return
        self._answer.set_result(((time.monotonic() - self._sent) * 1000, msgspec.json.decode(body, type=Told)))

    def leave(self) -> None:
        self._transport.abort()


async def connected(url: str, count: int) -> list[Connection]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(count):
        _, one = await loop.create_connection(lambda: Connection(parts.netloc), parts.hostname, parts.port)
        found.append(one)
    return found


async def fill(url: str, players: int) -> None:
    scores = [{"userId": f"p{number:05}", "delta": number + 1} for number in range(players)]
    async with aiohttp.ClientSession(url) as session:
        for first in range(0, players, BATCH):
            body = scores[first : first + BATCH]
            async with session.post(f"/v1/seasons/{SEASON}/scores/batch", json=body) as response:
                response.raise_for_status()


async def posts(connections: Sequence[Connection], wait: str) -> list[tuple[float, Told]]:
    """A score on each of the connections, all at once."""
    path = f"/v1/seasons/{SEASON}/scores{wait}"
    return await asyncio.gather(
        *(one.ask("POST", path, b'{"userId":"p%05d","delta":1}' % number) for number, one in enumerate(connections))
    )


async def reads(connections: Sequence[Connection], after: Sequence[str]) -> list[tuple[float, Told]]:
    """A read on each of the connections that waits for the score of its own player."""
    path = f"/v1/seasons/{SEASON}/leaderboard/rank?userId=p"
    return await asyncio.gather(
        *(
            one.ask("GET", f"{path}{number:05}&after={event_id}&wait={WAIT_MS}")
            for number, (one, event_id) in enumerate(zip(connections, after, strict=True))
        )
    )


async def measured(stack: Stack, kind: str, count: int, rounds: int) -> dict[str, Any]:
    """One line of the table."""
    found: list[tuple[float, Told]] = []
    seconds = 0.0
    async with counting(stack) as (url, looks):
        connections = await connected(url, count)
        await posts(connections, "")
        await stack.drained()
        for _ in range(rounds):
            stored = await posts(connections, "") if kind == "reads" else []
            started = time.monotonic()
            if kind == "reads":
                found += await reads(connections, [told.event_id for _, told in stored])
            else:
                found += await posts(connections, f"?wait={WAIT_MS}" if kind == "posts" else "")
            seconds += time.monotonic() - started
            await stack.drained()
        for one in connections:
            one.leave()
    cuts = statistics.quantiles([milliseconds for milliseconds, _ in found], n=100)
    return {
        "kind": kind,
        "pending": sum(told.pending for _, told in found),
        **{f"p{cut}_ms": round(cuts[cut - 1], 1) for cut in (50, 90, 99)},
        "statements_per_second": round(looks[0] / seconds),
        "statements_per_round": round(looks[0] / rounds, 1),
    }


@asynccontextmanager
async def counting(stack: Stack) -> AsyncIterator[tuple[str, list[int]]]:
    """An API process of its own on the stack's servers; how many statements asked for those who wait is known at its
    end."""
    port, looks = free_port(), [0]
    settings = {"POSTGRES_DSN": stack.dsn(), "REDIS_URL": stack.redis_url, "API_PORT": port, "LOG_LEVEL": "warning"}
    async with running([sys.executable, "-m", "bench.waits", "--serve"], settings=settings) as process:
        if await first_line(process) != "ready":
            raise SystemExit("the process that is measured did not start; what it says stands above")
        yield f"http://127.0.0.1:{port}", looks
        process.terminate()
        looks[0] = int(await first_line(process))


def serve() -> None:
    """What `counting` starts."""
    settings = load_service_settings()
    configure_logs(settings, "api")  # unconfigured they go where `counting` reads
    app = create_app(settings)
    visibility = cast("Visibility", getattr(app.stop, "__self__"))  # noqa: B009 - a method's own, unknown to its type
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http=DirectHttpProtocol,
        ws="none",
        log_config=None,
        headers=SERVER_HEADERS,
        proxy_headers=False,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print("ready", flush=True)

        async def shutdown(self, sockets: Any = None) -> None:
            print(visibility.looks, flush=True)
            await super().shutdown(sockets)

    Server(config).run()


async def run(count: int, rounds: int) -> list[dict[str, Any]]:
    async with service(API_WORKERS=1) as stack:
        await fill(stack.url, max(count, 10_000))
        await stack.drained()
        await stack.seasoned()
        return [await measured(stack, kind, count, rounds) for kind in KINDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="how many wait at once, default 1000")
    parser.add_argument("--rounds", type=int, default=10, help="how often, default 10")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    open_files.raise_limit()
    if arguments.serve:
        serve()
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(arguments.count, arguments.rounds))
    print(json.dumps(result) if arguments.json else "\n".join(json.dumps(line) for line in result))


if __name__ == "__main__":
    main()
