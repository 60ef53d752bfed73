"""(l) a poison event in a batch of 500, (n) resets racing writes and batches, (p) scores at ±(2^53 - 1)."""

from __future__ import annotations

import asyncio

from faults.load import PATIENT, Connection, get
from shared import keys
from shared.scores import MAX_SCORE
from worker.batch import STEPS


async def test_l_a_poison_event_in_a_batch_of_500(run):
    """499 pass, it is failed with its reason, once, and nobody tries it again."""
    async with run.under_load(workers=1, settings=PATIENT, load={"writers": 0}) as (stack, load):
        (worker,) = stack.workers
        for _ in run.rounds(2, 30):
            rich = f"rich{run.faults}"
            load.history.may_fail.add(("s0", rich))
            await _send(load, stack, [load.attempt("s0", rich, MAX_SCORE)])
            await stack.caught_up()
            await worker.kill()
            scores = [load.attempt(f"s{run.rng.randrange(3)}", delta=run.rng.randrange(1, 100)) for _ in range(499)]
            scores.insert(run.rng.randrange(500), load.attempt("s0", rich, 1))
            await _send(load, stack, scores)
            await worker.start()
            await stack.caught_up()
            failed = await _failed(stack, rich)
            assert len(failed) == 1
            assert failed[0][0] == 1
            assert "standings_score_check" in failed[0][1]
            # It does not stand in the way of what comes after, and is not looked at again.
            await _send(load, stack, [load.attempt("s0", rich, -1), load.attempt("s0", "other", 1)])
            await stack.caught_up()
            assert await _failed(stack, rich) == failed


async def _failed(stack, user_id):
    query = "select attempts, last_error from outbox where status = 'failed' and user_id = %s"
    return await stack.rows(query, user_id)


async def _send(load, stack, attempts):
    """All of them, over some connections at once, each until it is acknowledged."""
    waiting = iter(attempts)

    async def sender():
        connection = await Connection.open(stack.apis[0].port)
        for attempt in waiting:
            while not await load.send(connection, attempt):
                pass
        connection.close()

    await asyncio.gather(*(sender() for _ in range(16)))


async def test_n_resets_racing_writes_and_batches(run):
    """Scores that were acknowledged before a DELETE was sent never count again; those sent after its answer do."""
    async with run.under_load(load={"players": 50}) as (stack, load):
        for _ in run.rounds(10, 200):
            await load.more(run.acks(50, 500))
            worker = run.rng.choice(stack.workers)
            if run.rng.random() < 0.2:
                await worker.kill()
                await worker.start(FAULT_POINT=run.rng.choice(STEPS))
            answered = []
            while not any(answered):  # on a slow machine the deadline may come first
                resets = [_reset(stack, load, f"s{run.rng.randrange(3)}") for _ in range(run.rng.randrange(1, 4))]
                answered = await asyncio.gather(*resets)
            if run.rng.random() < 0.1:
                await stack.apis[1].kill()
                await stack.apis[1].start()
                await stack.apis[1].until_serving()
            if worker.running.returncode is not None:
                await worker.start()
        for worker in stack.workers:  # one may yet be on its way to its fault point
            await worker.kill()
            await worker.start()


async def _reset(stack, load, season_id):
    """Once it is answered, the board shows nothing of before: not soon, then."""
    answered = await load.reset(season_id)
    # Counted first: others may be answered while Redis is asked.
    if answered and (resets := load.history.answered_resets(season_id)):
        assert int(await stack.redis.hget(keys.meta(season_id), "epoch") or 0) > resets
    return answered


async def test_p_scores_at_the_limits(run):
    async with run.under_load(settings=PATIENT, load={"writers": 0}) as (stack, load):
        for _ in run.rounds(2, 20):
            for sign in (1, -1):
                player, limit = f"p{run.faults}{'+' if sign > 0 else '-'}", sign * MAX_SCORE
                load.history.may_fail.add(("s0", player))
                steps = [limit, sign, -sign, sign, -limit, -limit, -sign, 2 * sign]
                total = 0
                for delta in steps:
                    await _send(load, stack, [load.attempt("s0", player, delta)])
                    if abs(total + delta) <= MAX_SCORE:
                        total += delta
                    # One by one: what a batch takes together counts if its sum may.
                    await stack.caught_up()
                status, answer = await get(
                    stack.apis[0].port, f"/v1/seasons/s0/leaderboard/rank?userId={player.replace('+', '%2B')}"
                )
                assert (status, answer["score"]) == (200, total)
            connection = await Connection.open(stack.apis[0].port)
            for delta in (MAX_SCORE + 1, -MAX_SCORE - 1, 2**63, 2**64, 10**400):
                status, _, _ = await connection.ask(
                    "POST", "/v1/seasons/s0/scores", body=b'{"userId":"x","delta":%d}' % delta
                )
                assert status == 400
            connection.close()
