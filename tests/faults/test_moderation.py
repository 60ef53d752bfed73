"""(s) Scores voided, players hidden, shown again and erased, while everything dies."""

from __future__ import annotations

import signal

from worker.batch import STEPS


async def test_s_moderation_while_workers_die_at_every_step(run):
    async with run.under_load(workers=1, load={"moderated": True, "players": 30}) as (stack, load):
        worker = stack.workers[0]
        for _ in run.rounds(len(STEPS), 10 * len(STEPS)):
            await worker.kill()
            await worker.start(FAULT_POINT=STEPS[run.faults % len(STEPS)])
            assert await worker.ended() == -signal.SIGKILL
            await load.more(run.acks(100, 600))
        await worker.start()
        run.tell(moderations=load.moderations)


async def test_s_moderation_while_servers_die_and_forget(run):
    """Two workers, resets, PostgreSQL and Valkey killed, Valkey emptied or without its file."""
    async with run.under_load(load={"moderated": True, "players": 30}) as (stack, load):
        for _ in run.rounds(5, 60):
            await load.more(run.acks(200, 800))
            match run.faults % 5:
                case 0:
                    await stack.kill_postgres()
                    await stack.start_postgres()
                case 1:
                    await stack.kill_valkey()
                    if run.rng.random() < 0.5:
                        stack.lose_append_only_file()
                    await load.more(run.acks(50, 300))
                    await stack.start_valkey()
                case 2:
                    await stack.redis.flushall()
                case 3:
                    await load.reset(run.rng.choice(("s0", "s1", "s2")))
                case 4:
                    worker = run.rng.choice(stack.workers)
                    await worker.kill()
                    await load.more(run.acks(50, 300))
                    await worker.start()
        run.tell(moderations=load.moderations)
