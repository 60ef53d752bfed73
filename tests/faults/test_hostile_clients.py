"""A real API process and thousands of connections that send what no honest client sends, or send it endlessly slowly.

It goes on serving, answers nothing with 5xx, ends each connection, and has stored what it answered with 202 and
nothing else. The seed is printed: FUZZ_SEED=… draws others, FUZZ_CASES=50000 more, FUZZ_ONLY=<number> repeats one case.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from ports import free_port

from cli.migrations import ROOT
from faults.hostile_requests import case
from faults.load import PATIENT

SEED = os.environ.get("FUZZ_SEED", "1")
CASES = int(os.environ.get("FUZZ_CASES", "4000"))
ONLY = os.environ.get("FUZZ_ONLY")

AT_ONCE = 400
PATIENCE_SECONDS = 120
"""Far beyond the longest limit that docs/api.md names, so that a busy machine is no failure; what hangs, hangs on."""

EMPTY = {"seasonId": "honest", "items": [], "totalPlayers": 0, "nextCursor": None}

GROWTH_MIB = 200
HONEST_PER_TURN = 50
REFUSED = {400, 404, 405, 408, 413, 414, 422, 431}


class Api(NamedTuple):
    process: asyncio.subprocess.Process
    port: int

    @property
    def memory_mib(self):
        """The most that was ever resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024

    def client(self):
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE_SECONDS)


@pytest.fixture
async def api(settings):
    """`python -m api` with one process, on this test's servers."""
    port = free_port()
    environment = {
        "POSTGRES_DSN": settings.postgres_dsn,
        "REDIS_URL": settings.redis_url,
        "API_PORT": str(port),
        "API_WORKERS": "1",
        "LOG_LEVEL": "warning",
        **{name: str(value) for name, value in PATIENT.items()},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api", cwd=ROOT, env={**os.environ, **environment}, stderr=asyncio.subprocess.PIPE
    )
    complaints = asyncio.create_task(process.stderr.read())
    found = Api(process, port)
    async with found.client() as http:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await http.get("/healthz")).status_code == 200:
                    break
            assert process.returncode is None
    yield found
    assert process.returncode is None
    process.terminate()
    assert await process.wait() == 0
    assert b"Traceback" not in await complaints


async def conversation(api, sent):
    """Everything that the server says to a client that sends this and then waits for the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    said = bytearray()
    try:
        with contextlib.suppress(ConnectionError):
            for piece in sent.pieces:
                writer.write(piece)
                await writer.drain()
            if sent.leaves:
                return b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while data := await reader.read(65536):
                    said += data
        return bytes(said)
    finally:
        writer.transport.abort()


def answers(said):
    """Status, body and headers of each answer; interim ones left out. No HEAD is ever sent, so each has its body."""
    while said:
        head, separator, rest = said.partition(b"\r\n\r\n")
        assert separator, said[:200]
        lines = head.decode("ascii").split("\r\n")
        version, status = lines[0].split()[:2]
        assert version == "HTTP/1.1"
        if status == "100":
            said = rest
            continue
        headers = dict(line.lower().split(": ", 1) for line in lines[1:])
        assert headers["content-type"] == "application/json"
        size = int(headers["content-length"])
        assert len(rest) >= size
        body = json.loads(rest[:size])
        if int(status) in REFUSED:
            assert body["requestId"]
            assert body["code"]
            assert body["error"]
        else:
            assert int(status) in {200, 202}, (status, body)
        yield int(status), body, headers
        said = rest[size:]


async def honest(http, stop, turned=None):
    """A client among them that does as it should; returns its scores. Now and then it is the others' turn."""
    stored = {}
    while not stop.is_set():
        user = f"honest{len(stored)}"
        response = await http.post("/v1/seasons/honest/scores", json={"userId": user, "delta": len(stored) + 1})
        assert response.status_code == 202, response.text
        stored[user] = len(stored) + 1
        response = await http.get("/v1/seasons/honest/leaderboard/top?limit=3")
        assert (response.status_code, response.json()) == (200, EMPTY)
        assert (await http.get("/healthz")).status_code == 200
        if turned is not None and len(stored) % HONEST_PER_TURN == 0:
            async with turned:
                turned.notify_all()
    return stored


@pytest.mark.timeout(400 + CASES // 50)
async def test_thousands_of_malformed_requests(api, pool):
    sys.stdout.write(f"FUZZ_SEED={SEED} FUZZ_CASES={CASES}\n")
    stored, statuses = Counter(), Counter()
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        sent = case(SEED, number)
        async with gate:
            try:
                for status, body, headers in answers(await conversation(api, sent)):
                    statuses[status] += 1
                    if status == 202 and "idempotent-replayed" not in headers:
                        stored[body["seasonId"], body["userId"]] += 1
            except Exception as error:
                error.add_note(f"FUZZ_SEED={SEED} FUZZ_ONLY={number}: {sent.kind}, {b''.join(sent.pieces)[:500]!r}")
                raise

    before = api.memory_mib
    stop = asyncio.Event()
    async with api.client() as http:
        between = asyncio.create_task(honest(http, stop))
        async with asyncio.TaskGroup() as group:
            for number in range(CASES) if ONLY is None else [int(ONLY)]:
                group.create_task(one(number))
        stop.set()
        deltas = await between
        sys.stdout.write(f"{dict(statuses)} honest: {len(deltas)} MiB: {before} to {api.memory_mib}\n")
        assert (await http.post("/v1/seasons/after/scores", json={"userId": "ann", "delta": 1})).status_code == 202
        assert (await http.get("/readyz")).status_code == 200
    assert api.memory_mib - before < GROWTH_MIB
    async with pool.connection() as conn:
        rows = await (
            await conn.execute("select season_id, user_id, delta from score_events where season_id not like 'left-%'")
        ).fetchall()
    assert {user: delta for season, user, delta in rows if season == "honest"} == deltas
    assert Counter((season, user) for season, user, _ in rows if season not in {"honest", "after"}) == stored


POST = b"POST /v1/seasons/slow/scores HTTP/1.1\r\nhost: x\r\n"
SLOW = [
    (b"GET /healthz HTTP/1.1\r\nhost: x\r\n", b"a: b\r\n", {"head_timeout"}),
    (b"GET /", b"x", {"head_timeout"}),
    (POST + b"content-length: 1000000\r\n\r\n", b" ", {"body_timeout"}),
    (POST + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", {"body_timeout"}),
    (b"\r\n", b"\r\n", set()),
    (b"", b"", set()),
]
SLOW_OF_EACH = 150


async def dripping(api, first, drip, turned):
    """What the server says to a client that sends a byte every turn until it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    said = asyncio.create_task(reader.read())
    writer.write(first)
    while not said.done():
        async with turned:
            await turned.wait()
        writer.write(drip)
    writer.transport.abort()
    [found] = await asyncio.gather(said, return_exceptions=True)
    return b"" if isinstance(found, ConnectionError) else found


async def test_hundreds_of_clients_that_send_a_byte_now_and_then(api, pool):
    before = api.memory_mib
    stop, turned = asyncio.Event(), asyncio.Condition()
    async with api.client() as http:
        between = asyncio.create_task(honest(http, stop, turned))
        async with asyncio.timeout(PATIENCE_SECONDS):
            said = await asyncio.gather(
                *(dripping(api, first, drip, turned) for first, drip, _ in SLOW for _ in range(SLOW_OF_EACH))
            )
        stop.set()
        assert await between
    for place, (_, _, code) in enumerate(SLOW):
        mine = said[place * SLOW_OF_EACH : (place + 1) * SLOW_OF_EACH]
        codes = Counter(body["code"] for one in mine for _, body, _ in answers(one))
        sys.stdout.write(f"{SLOW[place][0][-40:]}: {codes}\n")
        assert set(codes) == code
    assert api.memory_mib - before < GROWTH_MIB
    async with pool.connection() as conn:
        assert await (await conn.execute("select 1 from score_events where season_id = 'slow'")).fetchone() is None
