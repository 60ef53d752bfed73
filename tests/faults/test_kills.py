"""Real worker processes killed at each step of a batch, several at once, and Valkey killed with its data wiped.

After the drain: board == standings == sum of the ledger.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sys

import psycopg
import pytest
from conftest import client_of, compare_everywhere, frozen
from ports import free_port
from redis.asyncio import Redis

from cli.migrations import ROOT
from shared import keys, ledger
from shared.scores import Score
from worker.batch import STEPS

PENDING = "select 1 from outbox where status = 'pending'"
DONE = "select 1 from outbox where status = 'done'"


@pytest.fixture
async def start_worker(settings):
    """Starts `python -m worker` on this test's servers; what still runs at the end is killed."""
    started = []

    async def start(**environment):
        environment = {
            "POSTGRES_DSN": settings.postgres_dsn,
            "REDIS_URL": settings.redis_url,
            "WORKER_HEALTH_PORT": "0",
            "OUTBOX_BATCH_SIZE": "50",
            "AUDIT_INTERVAL_MS": "50",
            "LOG_LEVEL": "warning",
            **environment,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", cwd=ROOT, env={**os.environ, **environment}
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stop(process):
    """SIGTERM, as an orchestrator sends it; a worker finishes its batch and goes."""
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


def some_scores(count):
    draw = random.Random(count)
    return [(f"s{draw.randrange(3)}", f"u{draw.randrange(40)}", draw.randrange(1, 100)) for _ in range(count)]


@pytest.mark.parametrize("step", STEPS)
async def test_a_worker_killed_at_a_step_loses_and_doubles_nothing(add, start_worker, eventually, truth, step):
    await add(*some_scores(300))
    doomed = await start_worker(FAULT_POINT=step)
    assert await doomed.wait() == -signal.SIGKILL
    # Events that came between are folded together with those of the dead batch.
    await add(*some_scores(70))
    worker = await start_worker()
    await eventually(PENDING, gone=True)
    await stop(worker)
    await truth()


async def test_workers_killed_over_and_over_beside_one_that_lives(add, start_worker, eventually, truth):
    worker = await start_worker()
    for step in random.Random(7).choices(STEPS, k=4):
        doomed = asyncio.create_task((await start_worker(FAULT_POINT=step)).wait())
        while not doomed.done():
            await add(*some_scores(20))
        assert await doomed == -signal.SIGKILL
    await eventually(PENDING, gone=True)
    await stop(worker)
    await truth()


async def test_two_workers_at_once_over_overlapping_players(add, start_worker, eventually, truth, pool):
    workers = [await start_worker(OUTBOX_BATCH_SIZE="25") for _ in range(2)]
    for _ in range(20):
        await add(*some_scores(200))
    await eventually(PENDING, gone=True)
    for worker in workers:
        await stop(worker)
    async with pool.connection() as conn:
        deadlocks = await (
            await conn.execute("select deadlocks from pg_stat_database where datname = current_database()")
        ).fetchone()
    assert deadlocks == (0,)
    await truth()


async def test_valkey_killed_with_its_data_wiped_comes_back_equal(add, start_worker, eventually, own_valkey, pool):
    worker = await start_worker(REDIS_URL=own_valkey.url())
    await add(*some_scores(500))
    await eventually(PENDING, gone=True)
    own_valkey.running.kill()
    await own_valkey.running.wait()
    await add(*some_scores(100))
    shutil.rmtree(own_valkey.program.cwd / "appendonlydir")
    own_valkey.running = await own_valkey.start()
    await eventually(PENDING, gone=True)
    async with Redis.from_url(own_valkey.url(), decode_responses=True) as redis, pool.connection() as conn:
        # The batch repairs the seasons it touches; the audit finds the others.
        while await redis.exists("lb:{s0}", "lb:{s1}", "lb:{s2}") < 3:
            await asyncio.sleep(0)
        await stop(worker)
        boards = await compare_everywhere(conn, redis)
    assert set(boards) == {"s0", "s1", "s2"}


async def test_a_wipe_is_noticed_without_a_new_score(add, start_worker, eventually, redis, truth):
    worker = await start_worker()
    await add(*some_scores(200))
    await eventually(PENDING, gone=True)
    await redis.flushall()
    while await redis.exists("lb:{s0}", "lb:{s1}", "lb:{s2}") < 3:
        await asyncio.sleep(0)
    await stop(worker)
    await truth()


async def test_sigterm_finishes_the_batch_and_ends_with_whole_batches_only(add, start_worker, eventually, pool, truth):
    await add(*some_scores(3000))
    worker = await start_worker()
    await eventually(DONE)
    await stop(worker)
    async with pool.connection() as conn:
        rows = await (await conn.execute("select status, count(*) from outbox group by status")).fetchall()
    counts = dict(rows)
    assert sum(counts.values()) == 3000
    assert counts["done"] % 50 == 0
    worker = await start_worker()
    await eventually(PENDING, gone=True)
    await stop(worker)
    await truth()


async def test_sigterm_ends_a_worker_whose_postgres_hangs(servers, own_postgres, start_worker, redis):
    async with await psycopg.AsyncConnection.connect(own_postgres.dsn(), autocommit=True) as conn:
        port = str(free_port())
        worker = await start_worker(
            POSTGRES_DSN=own_postgres.dsn(), REDIS_URL=servers.redis_url, WORKER_HEALTH_PORT=port
        )
        await ledger.create_seasons(conn, ["s"])
        await ledger.append(conn, [Score("s", "ann", 1)])
        while await redis.zscore(keys.board("s"), "ann") is None:
            await asyncio.sleep(0)
        async with client_of(f"http://127.0.0.1:{port}") as health:
            with frozen(own_postgres):
                while (await health.get("/healthz")).json()["secondsSinceLastTurn"] < 0.5:
                    pass  # until a statement is under way
                await stop(worker)
