"""(u) seasons reset by schedule, archived, and their final ranks told to a receiver, while workers are killed at every
step of it: each moment is carried out once, each score is in the final ranks of its epoch once, each epoch is told of
under one id."""

from __future__ import annotations

import asyncio
import json
import signal

from receiver import SECRET, receiving

from faults.load import Connection
from faults.test_archives import Archive, judge_archives, until_sealed
from worker.deliveries import DELIVERY_STEPS
from worker.schedules import SCHEDULE_STEPS

FIRST = ("schedule_reset", "schedule_fired", "delivery_written", "delivery_noted")
KILLED_AT = (*FIRST, *sorted({*SCHEDULE_STEPS[:4], *DELIVERY_STEPS} - {*FIRST}))
"""In a short run the first ones alone: who dies with a delivery in its hands has it for 30 s."""

SEASONS = ("s0", "s1", "s2")


async def test_u_workers_killed_while_seasons_reset_by_schedule(run):
    settings = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_TARGETS": "any"}
    async with (
        receiving() as (receiver, port),
        run.under_load(load={"players": 50, "writers": 8}, settings=settings) as (stack, load),
    ):
        worker, other = stack.workers
        ended = []
        await load.more(run.acks(300, 3000))
        for season_id in SEASONS:
            await _schedule(stack, season_id, port)
        for _ in run.rounds(len(FIRST), 10 * len(KILLED_AT)):
            await asyncio.gather(worker.kill(), other.kill())
            await load.more(run.acks(50, 500))  # pending when their epochs end
            moments = {season_id: await _make_due(stack, load, season_id) for season_id in SEASONS}
            await worker.start(FAULT_POINT=KILLED_AT[run.faults % len(KILLED_AT)])
            assert await worker.ended() == -signal.SIGKILL
            await asyncio.gather(worker.start(), other.start())
            ended += [await _fired(stack, load, season_id, *moments[season_id]) for season_id in SEASONS]
        async with load.paused():
            await stack.drained()
            await until_sealed(stack)
            await judge_archives(stack, load.history, ended)
            await _judge_told(stack, receiver, ended)
        run.tell(resets_by_schedule=len(ended))


async def _schedule(stack, season_id, port):
    rewards = {"url": f"http://127.0.0.1:{port}/closed", "top": 1000}
    body = json.dumps({"resets": {"cron": "0 0 1 1 *", "archive": True}, "rewards": rewards}).encode()
    connection = await Connection.open(stack.ports()[0])
    status, _, answer = await connection.ask("PUT", f"/v1/seasons/{season_id}", body=body)
    connection.close()
    assert status == 200, answer


async def _make_due(stack, load, season_id):
    """As if the season's next moment had come just now; returns it, what will have been a reset, and of which epoch."""
    reset = load.history.reset_began(season_id)
    ((at,),) = await stack.rows(
        "update reset_schedules set next_at = clock_timestamp() where season_id = %s returning next_at", season_id
    )
    return at, reset, await stack.ask("select epoch from seasons where season_id = %s", season_id)


async def _fired(stack, load, season_id, at, reset, epoch):
    """Return once that moment is carried out; the scenario's time limit bounds it."""
    while await stack.ask("select previous_at from reset_schedules where season_id = %s", season_id) != at:
        await asyncio.sleep(0.01)  # PostgreSQL has no event for this
    assert await stack.ask("select epoch from seasons where season_id = %s", season_id) == epoch + 1
    load.history.reset_answered(reset)
    return Archive(season_id, epoch, reset.sent, reset.answered)


async def _judge_told(stack, receiver, ended):
    """Each epoch under one id, and what the first and every other attempt said are its final ranks."""
    while await stack.ask("select count(*) from deliveries where status = 'done'") < len(ended):
        # As if the 30 s had passed for which the dead have what they had in their hands.
        await stack.rows("update deliveries set next_at = now() where status = 'pending' and attempts > 0 returning id")
        await asyncio.sleep(0.5)  # a worker looks every second
    told = {}
    for received in receiver.received:
        said = received.verified()["data"]
        place = said["seasonId"], said["epoch"]
        assert told.setdefault(place, (received.webhook_id, received.body)) == (received.webhook_id, received.body)
        ranks = await stack.rows(
            "select rank, user_id, score from final_ranks where season_id = %s and epoch = %s order by rank", *place
        )
        assert [(item["rank"], item["userId"], item["score"]) for item in said["ranks"]] == ranks
        assert (said["reason"], said["totalPlayers"]) == ("schedule", len(ranks))
    assert told.keys() == {archive[:2] for archive in ended}
    assert len({webhook_id for webhook_id, _ in told.values()}) == len(ended)
