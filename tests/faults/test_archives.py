"""(t) epochs are archived while scores come for them, workers are killed at every step of sealing them and two seal at
once: each score is in the final ranks of its epoch, once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter, defaultdict
from typing import NamedTuple

from faults.history import ACKED
from faults.load import Connection
from worker.batch import STEPS
from worker.sealer import SEAL_STEPS

ENDS = ("killed", "stopped and killed", "late")


class Archive(NamedTuple):
    """An archive of a season's epoch, by the ticks of the history."""

    season_id: str
    epoch: int
    sent: int
    answered: int


async def test_t_workers_killed_while_epochs_are_sealed(run):
    """Or stopped, and their sessions ended while another one seals, and going on, late."""
    async with run.under_load(load={"players": 50, "writers": 8}) as (stack, load):
        worker, other = stack.workers
        archives = []
        await load.more(run.acks(500, 3000))
        for _ in run.rounds(len(SEAL_STEPS), 10 * len(SEAL_STEPS)):
            step = SEAL_STEPS[run.faults % len(SEAL_STEPS)]
            end = ENDS[(run.faults + run.faults // len(SEAL_STEPS)) % len(ENDS)]
            if step == SEAL_STEPS[-1]:
                await other.kill()  # or it has died at its step, while the worker is stopped: nobody would seal
                await other.start()
                await until_sealed(stack)
            await asyncio.gather(worker.kill(), other.kill())
            await load.more(run.acks(50, 500))  # pending when their epochs end
            found = await asyncio.gather(*(_archive(run, stack, load, f"s{number}") for number in range(3)))
            archives += [archive for archive in found if archive is not None]
            await load.more(run.acks(20, 200))
            if end == "killed":
                # Now and then some stay pending for as long as a worker is stopped that has claimed them.
                if step == SEAL_STEPS[-1]:
                    await other.start(FAULT_POINT="claimed:stop")
                    await stack.until_stopped(other)
                await worker.start(FAULT_POINT=step)
                if step == SEAL_STEPS[-1]:
                    await load.more(run.acks(4000, 4000))
                    assert worker.running.returncode is None, "sealed without what is pending"
                    await other.kill()
                assert await worker.ended() == -signal.SIGKILL
                await asyncio.gather(worker.start(), other.start())
                continue
            await worker.start(FAULT_POINT=f"{step}:stop")
            await stack.until_stopped(worker)
            await stack.end_worker_sessions()
            await other.start(**({"FAULT_POINT": run.rng.choice(STEPS)} if run.rng.random() < 0.3 else {}))
            if end == "late":
                os.kill(worker.running.pid, signal.SIGCONT)
        await asyncio.gather(worker.kill(), other.kill())
        await asyncio.gather(worker.start(), other.start())
        async with load.paused():
            await stack.drained()
            await until_sealed(stack)
            await judge_archives(stack, load.history, archives)
        run.tell(epochs_sealed=len(archives))


async def _archive(run, stack, load, season_id):
    """End the season's epoch and keep it; None where there was nothing in it, or no answer."""
    reset = load.history.reset_began(season_id)
    connection = await Connection.open(run.rng.choice(stack.ports()))
    try:
        status, _, body = await connection.ask("DELETE", f"/v1/seasons/{season_id}?archive=true")
    finally:
        connection.close()
    told = json.loads(body)
    if status == 503:
        assert told["code"] in ("deadline_exceeded", "redis_unavailable"), told
        return None
    assert (status, told["archived"]) == (200, True), told
    load.history.reset_answered(reset)
    return Archive(season_id, told["epoch"], reset.sent, reset.answered)


async def until_sealed(stack):
    """Return once nothing is left to seal; the scenario's time limit bounds it."""
    while await stack.ask("select exists (select from season_epochs where archived and sealed_at is null)"):
        await asyncio.sleep(0.02)  # PostgreSQL has no event for this


async def judge_archives(stack, history, archives):
    """What is archived against what the clients were told, and against the ledger, of which nothing is gone."""
    epoch_of = {}
    expected, found = defaultdict(Counter), defaultdict(dict)
    query = "select key, event.season_id, epoch, event.user_id, event.delta from score_events as event"
    for key, season_id, epoch, user_id, delta in await stack.rows(
        f"{query} join idempotency_keys as known on known.event_id = event.id"
    ):
        assert key not in epoch_of
        epoch_of[key] = epoch
        expected[season_id, epoch][user_id] += delta
    query = "select season_id, epoch, rank, user_id, score from final_ranks order by season_id, epoch, rank"
    for season_id, epoch, rank, user_id, score in await stack.rows(query):
        ranks = found[season_id, epoch]
        assert rank == len(ranks) + 1
        assert user_id not in ranks
        ranks[user_id] = score
    assert len({archive[:2] for archive in archives}) == len(archives)
    for archive in archives:
        board = list(found[archive[:2]].items())
        assert dict(board) == dict(expected[archive[:2]]), archive
        assert board == sorted(board, key=lambda place: (place[1], place[0].encode()), reverse=True)
    told = await stack.rows("select season_id, epoch, players from season_epochs where archived")
    assert {(season_id, epoch): players for season_id, epoch, players in told} == {
        place: len(ranks) for place, ranks in found.items()
    }
    for attempt in history.attempts.values():
        if attempt.state != ACKED:
            continue
        epoch = epoch_of[attempt.key]  # what was acknowledged is in the ledger
        for archive in archives:
            if archive.season_id == attempt.season_id:
                assert epoch <= archive.epoch or attempt.answered > archive.sent, (attempt.key, archive)
                assert epoch > archive.epoch or attempt.sent < archive.answered, (attempt.key, archive)
