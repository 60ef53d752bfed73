"""(r) scores leave windows while workers are killed at every step of it and at any other moment, beside anything else
that can go wrong; after days without a worker; by two workers at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import time
from itertools import product

from faults.choices import LONG
from shared.scores import Rules
from worker.sweep import SWEEP_STEPS

RULES = tuple(
    Rules(aggregation, order, windows=True, tie_break=tie_break)
    for (aggregation, order), tie_break in product(
        (("sum", "desc"), ("best", "desc"), ("best", "asc"), ("latest", "desc")), ("earliest", "member")
    )
)
ENDS = ("killed", "stopped and killed", "late")


async def test_r_a_worker_killed_at_every_step_of_a_sweep(run):
    """Or stopped there and killed while another one sweeps; or its sessions are ended, the other one lets more leave,
    and then it goes on, late. No audit mends what it does then."""
    settings = {"AUDIT_INTERVAL_MS": 3_600_000}
    async with run.under_load(settings=settings, load={"rules": RULES, "players": 50, "writers": 4}) as (stack, load):
        worker, other = stack.workers
        await load.more(run.acks(1000, 3000))
        for _ in run.rounds(len(SWEEP_STEPS), 6 * len(SWEEP_STEPS)):
            await asyncio.gather(worker.kill(), other.kill())
            await load.more(run.acks(50, 300))
            # It shows a batch in windows that some of it has left by the time it is applied.
            await worker.start(FAULT_POINT="projected")
            assert await worker.ended() == -signal.SIGKILL
            await _some_become_due(run, stack, load)
            step, end = SWEEP_STEPS[run.faults % len(SWEEP_STEPS)], ENDS[(run.faults + run.faults // 4) % len(ENDS)]
            if end == "killed":
                await worker.start(FAULT_POINT=step)
                assert await worker.ended() == -signal.SIGKILL
                await load.more(run.acks(20, 200))
            else:
                await worker.start(FAULT_POINT=f"{step}:stop")
                await stack.until_stopped(worker)
                if end == "late":
                    await stack.end_worker_sessions()
                await other.start()
                await load.more(run.acks(50, 300))
            if end == "late":
                await stack.swept()
                os.kill(worker.running.pid, signal.SIGCONT)
            else:
                await worker.kill()
                await worker.start()
            async with load.paused():
                run.require(await stack.judged(load.history))
                if LONG or step == SWEEP_STEPS[-1]:
                    # And by sweeps alone: neither batch nor audit shows what they have not.
                    await worker.until_serving()
                    await _some_become_due(run, stack, load)
                    run.require(await stack.judged(load.history))


async def test_r_anything_killed_while_scores_leave_windows(run):
    """One worker again and again, at any moment and at every step, beside one that lives; and meanwhile Valkey killed,
    with its files or without, or emptied, PostgreSQL killed, a season reset."""
    async with run.under_load(load={"rules": RULES, "players": 50, "writers": 4}) as (stack, load):
        doomed, _ = stack.workers
        await load.more(run.acks(1000, 3000))
        faults = (_kill_valkey, _lose_valkey, _empty_valkey, _kill_postgres, _kill_backend, _reset, _nothing)
        for _ in run.rounds(4, 70):
            await doomed.kill()
            await _some_become_due(run, stack, load)
            points = ({}, {"FAULT_POINT": run.rng.choice(SWEEP_STEPS)})
            await doomed.start(**run.rng.choice(points))
            await load.more(run.rng.randrange(1, 1000))
            await faults[run.faults % len(faults)](run, stack, load)
            await load.more(run.rng.randrange(1, 1000))
            await doomed.kill()
            await doomed.start()
            if LONG:
                async with load.paused():
                    run.require(await stack.judged(load.history))


async def _kill_valkey(run, stack, load):
    await stack.kill_valkey()
    await load.more(run.acks(50, 300))
    await stack.start_valkey()


async def _lose_valkey(run, stack, load):
    await stack.kill_valkey()
    stack.lose_append_only_file()
    await load.more(run.acks(50, 300))
    await stack.start_valkey()


async def _empty_valkey(_run, stack, _load):
    await stack.redis.flushall()


async def _kill_postgres(_run, stack, _load):
    await stack.kill_postgres()
    await stack.start_postgres()


async def _kill_backend(run, stack, _load):
    await stack.kill_backend(run.rng)


async def _reset(run, _stack, load):
    await load.reset(f"s{run.rng.randrange(len(RULES))}")


async def _nothing(_run, _stack, _load):
    """The worker alone is killed."""


async def test_r_days_without_a_worker(run):
    """All that became due meanwhile leaves, and batches go on being applied beside it."""
    rules = RULES[:2] + RULES[4:5]
    async with run.under_load(workers=1, load={"rules": rules, "players": 2000}) as (stack, load):
        (worker,) = stack.workers
        await load.more(25_000 if LONG else 3000)
        for _ in run.rounds(1, 2):
            await stack.caught_up()
            await worker.kill()
            await stack.let_pass(load, run.rng.randrange(2 * 1440, 4 * 1440))
            due, started = await stack.minutes_due(), time.monotonic()
            assert due > (10_000 if LONG else 1500)
            await worker.start()
            applied = [await _applied(stack)]
            while await stack.minutes_due():
                applied.append(await _applied(stack))
            run.tell_most("minutes due, at most", due)
            run.tell_most("seconds until all had left, at most", round(time.monotonic() - started, 1))
            assert applied[-1] > applied[0], "no batch was applied meanwhile"
            await load.more(run.acks(500, 10_000))


async def _applied(stack):
    return await stack.ask("select count(*) from outbox where status = 'done'")


async def test_r_two_workers_sweep_at_once(run):
    """Every minute leaves each window once, whoever lets it; nobody deadlocks, not with batches either."""
    settings = {"LOG_LEVEL": "debug"}
    load = {"rules": RULES, "players": 100, "writers": 8, "draw_age": _half_an_hour_before_leaving}
    async with run.under_load(settings=settings, load=load) as (stack, load):
        left = [0, 0]
        for _ in run.rounds(2, 20):
            await load.more(run.acks(1000, 3000))
            await stack.caught_up()
            await asyncio.gather(*(worker.kill() for worker in stack.workers))
            await stack.let_pass(load, 60)
            due = await stack.minutes_due()
            assert due > 100
            await asyncio.gather(*(worker.start() for worker in stack.workers))
            await load.more(run.acks(200, 1000))
            await asyncio.gather(*(worker.until_serving() for worker in stack.workers))
            await stack.swept()
            async with load.paused():
                await stack.caught_up()
                assert [await worker.stop() for worker in stack.workers] == [0, 0]
            swept = [_minutes_left(worker) for worker in stack.workers]
            assert sum(swept) == due
            left = [sum(both) for both in zip(left, swept, strict=True)]
            assert await stack.ask("select deadlocks from pg_stat_database where datname = current_database()") == 0
            await asyncio.gather(*(worker.start() for worker in stack.workers))
        run.tell(minutes_left=f"{left[0]:,} by one, {left[1]:,} by the other")


def _half_an_hour_before_leaving(rng):
    """So that what leaves does so when the test lets time pass, and at no other moment."""
    return dt.timedelta(hours=rng.choice((24, 72, 168)), minutes=-30, seconds=-rng.randrange(600))


def _minutes_left(worker):
    told = (json.loads(line) for line in worker.new_log().splitlines())
    return sum(line["minutes"] for line in told if line["event"] == "scores left windows")


async def _some_become_due(run, stack, load):
    """Let time pass until a part of what windows show is to leave one."""
    await stack.let_pass(load, await stack.minutes_until_due(run.rng.uniform(0.02, 0.4)))
    run.tell_most("minutes due at once", await stack.minutes_due())
