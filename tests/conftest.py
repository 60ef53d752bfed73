"""Fixtures: one PostgreSQL and one Valkey per test run, one cloned database per test, real HTTP.

Nothing is mocked. `servers` are the programs of `make run`; a test that kills a server starts its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx2
import psycopg
import pytest
import uvicorn
from ports import free_port
from raw_http import connection_to
from redis.asyncio import Redis

from api.app import create_app
from api.direct_protocol import DirectHttpProtocol
from api.http_protocol import SERVER_HEADERS
from cli.embedded import process
from cli.embedded.account import server_account
from cli.embedded.postgres import EmbeddedPostgres, embedded_dsn
from cli.embedded.valkey import EmbeddedValkey
from cli.migrations import migrate
from shared import keys, ledger
from shared.board_entries import TIE_LENGTH
from shared.postgres import create_pool
from shared.projection import Projection
from shared.scores import Score
from shared.settings import ServiceSettings
from worker.app import worker_connection
from worker.batch import BatchApplier

pytest_plugins = ["faults.table"]

_LONG_FIRST = ("acceptance", "faults", "model")
_PASSWORD = "test"  # on loopback, for the length of a run
_TEMPLATE = "leaderboard_template"


def pytest_collection_modifyitems(items):
    """The folders of long tests first: of processes that share the tests, none is left with a long one in the end."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG_FIRST)


class Servers(NamedTuple):
    postgres_port: int
    redis_url: str

    def dsn(self, database: str) -> str:
        return embedded_dsn(self.postgres_port, _PASSWORD, database)


@pytest.fixture(scope="session")
def scratch():
    """A folder that the servers' unprivileged user can pass through (pytest's own are mode 700)."""
    folder = Path(tempfile.mkdtemp(prefix="leaderboard-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(scratch):
    """PostgreSQL with a migrated template database, and Valkey. Not durable: no test of theirs pulls the plug."""
    with asyncio.Runner() as runner:
        account = server_account()
        port = free_port()
        settings = {"fsync": "off", "max_connections": "300"}
        postgres = EmbeddedPostgres(scratch, port, _PASSWORD, account, settings)
        valkey = EmbeddedValkey(scratch, free_port(), _PASSWORD, account, {"appendonly": "no"})
        running = [(postgres.program, runner.run(postgres.start())), (valkey.program, runner.run(valkey.start()))]
        found = Servers(port, valkey.url())
        with psycopg.connect(found.dsn("postgres"), autocommit=True) as conn:
            conn.execute(f"create database {_TEMPLATE}")
        migrate(found.dsn(_TEMPLATE))
        yield found
        for program, started in reversed(running):
            runner.run(process.stop(program, started, patience_seconds=10))


@pytest.fixture
async def own_valkey(scratch, tmp_path_factory):
    """A Valkey that the test may stop and start."""
    folder = scratch / tmp_path_factory.mktemp("valkey").name
    folder.mkdir(mode=0o711)
    valkey = EmbeddedValkey(folder, free_port(), _PASSWORD, server_account())
    valkey.running = await valkey.start()
    yield valkey
    await process.stop(valkey.program, valkey.running, 5)


@pytest.fixture
async def own_postgres(scratch, tmp_path_factory):
    """A PostgreSQL that the test may stop and start, schema and all."""
    folder = scratch / tmp_path_factory.mktemp("postgres").name
    folder.mkdir(mode=0o711)
    postgres = EmbeddedPostgres(folder, free_port(), _PASSWORD, server_account(), {"fsync": "off"})
    postgres.running = await postgres.start()
    await asyncio.to_thread(migrate, postgres.dsn())
    yield postgres
    await process.stop(postgres.program, postgres.running, 5)


@contextlib.contextmanager
def frozen(postgres):
    """Every process of the server stopped: connections stay open, nothing is answered."""
    # Each backend is in a session of its own, so the postmaster's process group does not reach them.
    postmaster = postgres.running.pid
    os.kill(postmaster, signal.SIGSTOP)
    while Path(f"/proc/{postmaster}/stat").read_text().rpartition(") ")[2][0] != "T":
        pass  # it may still have a child, which would answer
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in map(int, children):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (postmaster, *map(int, children)):
            os.kill(pid, signal.SIGCONT)


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def maintenance(servers):
    """One session that makes and drops databases: the first that a session makes takes 110 ms, the next ones 14."""
    with psycopg.connect(servers.dsn("postgres"), autocommit=True) as conn:
        yield conn


@pytest.fixture
def dsn(servers, maintenance):
    """A database of the test's own, schema and all."""
    name = f"test_{next(_numbers)}"
    maintenance.execute(f"create database {name} template {_TEMPLATE}")
    yield servers.dsn(name)
    maintenance.execute(f"drop database {name} with (force)")


@pytest.fixture
async def redis(servers):
    """A client of an empty Valkey, decoding as the service does."""
    async with Redis.from_url(servers.redis_url, decode_responses=True, protocol=3) as client:
        await client.flushall()
        yield client


@pytest.fixture
def settings(dsn, redis, servers):  # noqa: ARG001 - emptied before the service starts
    """Settings of a service on this test's servers, with any free ports."""
    return make_settings(dsn, servers.redis_url)


def make_settings(dsn, redis_url, **changes):
    """The deadline of requests is a bound on what hangs; a test that goes by it has its own."""
    given = {"api_port": 0, "worker_health_port": 0, "request_timeout_ms": 60_000, "startup_timeout_seconds": 5}
    return ServiceSettings(_env_file=None, postgres_dsn=dsn, redis_url=redis_url, **{**given, **changes})


unhurried_pool = partial(create_pool, wait_seconds=60)
"""For tests that do not go by the second within which a connection must be had."""


@pytest.fixture
async def pool(settings):
    """Connections as a worker has them."""
    async with unhurried_pool(worker_connection(settings), max_size=6, patience_seconds=60) as pool:
        yield pool


@pytest.fixture
async def patient_pool(settings):
    """The same for several who want the same rows: each waits for its turn, however long the others take."""
    unbounded = "?options=-c%20lock_timeout%3D0%20-c%20statement_timeout%3D0"
    settings = settings.model_copy(update={"postgres_dsn": settings.postgres_dsn + unbounded})
    async with unhurried_pool(worker_connection(settings), max_size=6, patience_seconds=60) as pool:
        yield pool


@pytest.fixture
async def projection(redis):
    return Projection(redis)


@pytest.fixture
def applier(pool, projection, settings):
    """A worker's batches, applied when the test says so."""
    return BatchApplier(pool, projection, settings.outbox_batch_size, lambda _step: None)


class InThread(uvicorn.Server):
    """A real server in this test's event loop; signals stay with the test runner."""

    def __init__(self, config):
        super().__init__(config)
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):
        yield

    async def main_loop(self):
        """Uvicorn's own looks every tenth of a second whether it is to stop: for each of a thousand tests."""
        ticks = itertools.count()
        while not await self.on_tick(next(ticks)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), 0.1)

    async def leave(self):
        """Stop, once connections that their clients have closed are seen to be."""
        for _ in range(100):
            if not self.server_state.connections:
                break
            await asyncio.sleep(0)
        self.should_exit = True
        self._leaving.set()


@contextlib.asynccontextmanager
async def serving(app):
    """Serve the application over TCP; yields its base URL."""
    server = InThread(
        uvicorn.Config(
            app,
            port=free_port(),
            log_config=None,
            access_log=False,
            http=DirectHttpProtocol,
            ws="none",
            proxy_headers=False,
            headers=SERVER_HEADERS,
        )
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
        await asyncio.sleep(0)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.leave()
        await task


def client_of(base_url):
    return httpx2.AsyncClient(base_url=base_url, timeout=120)  # the service's own deadline comes first


def unhurried_app(settings):
    """An API that waits for connections to PostgreSQL however long they take, where that is never away."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("api.app.create_pool", unhurried_pool)
        return create_app(settings)


@pytest.fixture
async def http(settings):
    """A client of a running API."""
    async with serving(unhurried_app(settings)) as base_url, client_of(base_url) as client:
        yield client


@pytest.fixture
async def connect(http):
    """Opens connections to the running API, on which anything can be sent."""
    opened = []

    async def connect_now():
        opened.append(await connection_to(http.base_url))
        return opened[-1]

    yield connect_now
    for connection in opened:
        connection.leave()


@pytest.fixture
async def drain(applier):
    """Apply batches until nothing is pending; returns how many events that were."""

    async def drain_now():
        total = 0
        while (batch := await applier.apply(floor=0, paused=[])).events:
            total += batch.events
        return total

    return drain_now


@pytest.fixture
def add(pool):
    """Write scores to the ledger, as the API's intake does."""

    async def add_scores(*scores):
        async with pool.connection() as conn:
            rows = [Score(*score) for score in scores]
            await ledger.create_seasons(conn, [row.season_id for row in rows])
            await ledger.append(conn, rows)

    return add_scores


@pytest.fixture
def eventually(pool):
    """Waits until a query finds a row (or, `gone=True`, none); the test's own timeout bounds it."""

    async def wait(query, *, gone=False):
        async with pool.connection() as conn:
            while (await (await conn.execute(query)).fetchone() is None) is not gone:
                await asyncio.sleep(0)

    return wait


@pytest.fixture
def truth(pool, redis):
    """Compares the three: after a drain, boards == standings == sums of the ledger. Returns the boards."""

    async def compare():
        async with pool.connection() as conn:
            return await compare_everywhere(conn, redis)

    return compare


_LEDGER = """
select event.season_id, event.user_id, aggregation, sort_order, event.delta
from score_events as event
join seasons using (season_id, epoch)
join outbox using (id)
where outbox.status = 'done' and event.voided_at is null
order by event.id
"""

_STANDINGS = """
select season_id, user_id, score from standings join seasons using (season_id, epoch) where score is not null
"""


def aggregated(aggregation, order, before, delta):
    """A player's score after an event, the latest so far."""
    if before is None or aggregation == "latest":
        return delta
    if aggregation == "sum":
        return before + delta
    return min(before, delta) if order == "asc" else max(before, delta)


async def compare_everywhere(conn, redis):
    """Assert that nothing is pending and that all three agree; returns {season: {user: score}} of non-empty boards,
    best first."""
    pending = await (await conn.execute("select count(*) from outbox where status = 'pending'")).fetchone()
    assert pending == (0,)
    ledger, standings = defaultdict(dict), defaultdict(dict)
    for season_id, user_id, aggregation, order, delta in await (await conn.execute(_LEDGER)).fetchall():
        before = ledger[season_id].get(user_id)
        ledger[season_id][user_id] = aggregated(aggregation, order, before, delta)
    for season_id, user_id, score in await (await conn.execute(_STANDINGS)).fetchall():
        standings[season_id][user_id] = score
    boards = {}
    for season_id, tie_break in await (await conn.execute("select season_id, tie_break from seasons")).fetchall():
        skipped = TIE_LENGTH if tie_break == "earliest" else 0
        if members := await redis.zrange(keys.board(season_id), 0, -1, withscores=True):
            boards[season_id] = {member[skipped:]: int(score) for member, score in members}
    assert ledger == standings
    for season_id, user_id in await (await conn.execute("select season_id, user_id from hidden_players")).fetchall():
        standings[season_id].pop(user_id, None)
    assert boards == {season_id: found for season_id, found in standings.items() if found}
    return boards


class CrashError(Exception):
    """Stands for the death of the worker: the transaction is rolled back, what Redis got stays."""


def crashing_at(step):
    def reach(reached):
        if reached == step:
            raise CrashError(step)

    return reach
