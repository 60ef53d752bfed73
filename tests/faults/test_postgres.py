"""Faults of PostgreSQL: (d) the reply to COMMIT lost, (i) half-open connections, (j) every session ended and the server
restarted, (k) a transaction held open for long at full load."""

from __future__ import annotations

import asyncio
import json
import time

from faults.choices import LONG
from shared import outbox


async def test_d_the_worker_does_not_hear_that_its_commit_succeeded(run):
    async with run.under_load(workers=1, proxied=("worker-postgres",)) as (stack, load):
        for _ in run.rounds(5, 100):
            await load.more(run.acks(100, 400))
            await stack.proxies["worker-postgres"].lose_replies(1, b"COMMIT")


async def test_d_the_api_does_not_hear_that_its_commit_succeeded(run):
    """Its statement is its transaction: the reply to that is lost, clients get 503 and send again."""
    async with run.under_load(proxied=("api-postgres",)) as (stack, load):
        for _ in run.rounds(10, 200):
            await load.more(run.acks(100, 400))
            # A season's name: a score is in what is sent.
            await stack.proxies["api-postgres"].lose_replies(1, b"s0")
        assert load.unavailable > 0
        assert load.replayed > 0
        run.tell(sent_again_and_counted_once=load.replayed)


async def test_i_the_api_on_half_open_connections(run):
    """Clients hear 503 within the deadline; once new connections pass, so do scores, though old ones stay silent."""
    async with run.under_load(proxied=("api-postgres",)) as (stack, load):
        proxy = stack.proxies["api-postgres"]
        for _ in run.rounds(1, 8):
            await load.more(run.acks(200, 1000))
            proxy.hold()
            before = load.unavailable
            while load.unavailable < before + 20:
                await asyncio.sleep(0.01)
            proxy.heal()
            healed = time.monotonic()
            await load.more(run.acks(500, 1000))
            run.tell_most("seconds to recover, at most", round(time.monotonic() - healed, 1))


async def test_i_the_worker_on_half_open_connections(run):
    async with run.under_load(workers=1, proxied=("worker-postgres",), patience_seconds=60) as (stack, load):
        proxy = stack.proxies["worker-postgres"]
        for _ in run.rounds(1, 4):
            await load.more(run.acks(200, 1000))
            proxy.hold()
            await load.more(run.acks(200, 1000))
            proxy.heal()
            healed = time.monotonic()
            await stack.caught_up()
            run.tell_most("seconds to recover, at most", round(time.monotonic() - healed, 1))


async def test_j_every_session_ended_and_the_server_restarted(run):
    async with run.under_load() as (stack, load):
        await load.more(run.acks(1000, 10_000))
        before = await _rate(load, run)
        for _ in run.rounds(3, 40):
            await load.more(run.acks(200, 1000))
            if run.faults % 3 == 2:
                await stack.restart_postgres()
            else:
                ended = await stack.ask(
                    "select count(*) filter (where pg_terminate_backend(pid)) from pg_stat_activity"
                    " where application_name in ('leaderboard-api', 'leaderboard-worker')"
                )
                assert ended > 0
        await load.more(run.acks(1000, 10_000))
        run.tell(throughput_after=f"{await _rate(load, run) / before:.2f} of before")


async def _rate(load, run):
    count, started = run.acks(2000, 20_000), time.monotonic()
    await load.more(count)
    return count / (time.monotonic() - started)


async def test_k_a_transaction_held_open_at_full_load(run):
    """Its snapshot keeps every dead entry of the pending index alive; the claim's floor keeps it from reading them."""
    async with run.under_load() as (stack, load):
        await load.more(run.acks(500, 5000))
        quiet = await _claims(stack, load, run, 5)
        for _ in run.rounds(1, 2):
            async with await stack.connect() as holder, holder.transaction():
                await holder.execute("set transaction isolation level repeatable read")
                await holder.execute("select count(*), pg_current_xact_id() from outbox")
                await load.more(run.acks(3000, 100_000))
                held = await _claims(stack, load, run, 5 if not LONG else 100)
                await stack.caught_up()  # the floor is beyond what was pending when the transaction began
                # The workers out of the way, so that both are asked of the same outbox.
                await asyncio.gather(*(worker.stop() for worker in stack.workers))
                with_floor = await _claim_cost(stack, await stack.ask(outbox.LOWEST_PENDING))
                without = await _claim_cost(stack, 0)
                await asyncio.gather(*(worker.start() for worker in stack.workers))
            await stack.caught_up()
        after = await _claims(stack, load, run, 5)
        run.tell(
            blocks_of_a_claim=f"{quiet[0]} before, at most {held[0]} meanwhile, {after[0]} after; at the end of it"
            f" {with_floor[0]} with, {without[0]} without the floor",
            ms=f"{quiet[1]:.1f}, {held[1]:.1f}, {after[1]:.1f}; {with_floor[1]:.1f}, {without[1]:.1f}",
        )
        assert with_floor[0] < without[0]


async def _claims(stack, load, run, count):
    """The worst of some claims, as a worker would make them now: blocks touched and milliseconds."""
    found = []
    for _ in range(count):
        await load.more(run.acks(50, 200))
        floor = await stack.ask(outbox.LOWEST_PENDING)
        found.append(await _claim_cost(stack, floor))
    return tuple(map(max, zip(*found, strict=True)))


async def _claim_cost(stack, floor):
    async with stack.conn.transaction(force_rollback=True):
        told = await stack.ask(f"explain (analyze, buffers, format json) {outbox.NEXT}", floor, [], 500)
    (plan,) = told if isinstance(told, list) else json.loads(told)
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], plan["Execution Time"]
