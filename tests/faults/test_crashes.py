"""(a) SIGKILL of every program at every step under load; (o) SIGTERM under load, and further ones."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import contextmanager, suppress

from faults.load import get
from worker.batch import STEPS


async def test_a_worker_killed_at_every_step(run):
    async with run.under_load(workers=1) as (stack, load):
        worker = stack.workers[0]
        for _ in run.rounds(len(STEPS), 10 * len(STEPS)):
            await worker.kill()
            await worker.start(FAULT_POINT=STEPS[run.faults % len(STEPS)])
            assert await worker.ended() == -signal.SIGKILL
            await load.more(run.acks(100, 600))
        await worker.start()


async def test_a_api_killed_at_any_moment(run):
    async with run.under_load() as (stack, load):
        for _ in run.rounds(3, 40):
            await load.more(run.acks(200, 1000))
            api = run.rng.choice(stack.apis)
            await api.kill()
            await load.more(run.acks(50, 200))
            await api.start()
            await api.until_serving()


async def test_a_postgres_killed_at_any_moment(run):
    """The whole server, or one backend, which makes it restart all of them."""
    async with run.under_load() as (stack, load):
        for _ in run.rounds(2, 30):
            await load.more(run.acks(300, 1500))
            if run.rng.random() < 0.5:
                await stack.kill_postgres()
                await stack.start_postgres()
            else:
                await stack.kill_backend(run.rng)


async def test_a_valkey_killed_at_any_moment(run):
    """With its append-only file as the kernel has it; now and then without it."""
    async with run.under_load() as (stack, load):
        for _ in run.rounds(4, 60):
            await load.more(run.acks(300, 1500))
            await stack.kill_valkey()
            if run.rng.random() < 0.3:
                stack.lose_append_only_file()
            await load.more(run.acks(50, 300))
            await stack.start_valkey()


async def test_o_sigterm_under_load(run):
    """Every process ends with exit code 0, having answered what it took; further SIGTERMs, until it has ended,
    change nothing."""
    async with run.under_load() as (stack, load):
        for _ in run.rounds(4, 40):
            await load.more(run.acks(200, 1000))
            part = run.rng.choice((*stack.apis, *stack.workers))
            part.running.send_signal(signal.SIGTERM)
            if run.rng.random() < 0.5:
                await _send_until_ended(signal.SIGTERM, part.running)
            code = await part.ended()
            assert code == 0, (part.name, code, part.log())
            if part in stack.workers:
                assert '"finished": true' in part.new_log()
            assert await get(part.port, "/healthz") is None
            await part.start()
            await part.until_serving()
        run.tell(unanswered=load.unanswered)


@contextmanager
def _handle_of(pid):
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)


async def _send_until_ended(number, process):
    # Not by the process' own method, which may reap what it waits for, and then know of no exit code.
    with suppress(ProcessLookupError), _handle_of(process.pid) as handle:
        while process.returncode is None:
            await asyncio.sleep(0.001)  # not at once: the kernel would take two for one
            signal.pidfd_send_signal(handle, number)
