"""/metrics of a worker: phases and outcomes of its batches, what boards answered, and what the database tells."""

from __future__ import annotations

import httpx2
import psycopg
import pytest
from own_worker import working
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

from shared import keys
from shared.projection import Projection
from shared.scores import MAX_SCORE
from worker.batch import STEPS, BatchApplier
from worker.metrics import PHASES, WorkerMetrics


@pytest.fixture
async def metrics(pool):
    return WorkerMetrics(pool)


@pytest.fixture
def apply(pool, redis, metrics, settings):
    return BatchApplier(
        pool, Projection(redis, metrics.answered), settings.outbox_batch_size, lambda _step: None, metrics.applied
    )


def samples(text):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_a_batch_is_told_by_phases_and_outcomes(add, apply, metrics):
    assert len(PHASES) == len(STEPS)
    await add(*[("s", f"u{number}", 1) for number in range(20)], ("s", "full", MAX_SCORE), ("s", "full", 1))
    await apply.apply(floor=0, paused=[])
    found = samples(await metrics.text())
    assert found["leaderboard_batch_events_sum",] == 22
    assert found["leaderboard_events_total", "done"] == 21
    assert found["leaderboard_events_total", "failed"] == 1
    for phase in PHASES:
        assert found["leaderboard_batch_phase_seconds_count", phase] == 1
        assert found["leaderboard_batch_phase_seconds_sum", phase] > 0
    assert found["leaderboard_projection_lag_seconds_count",] == 1
    assert found["leaderboard_projection_lag_seconds_sum",] > 0


async def test_the_lag_is_that_of_the_oldest(add, apply, metrics, pool):
    await add(("s", "ann", 1), ("s", "bob", 1))
    async with pool.connection() as conn:
        await conn.execute("update outbox set created_at = now() - interval '100 s' where user_id = 'ann'")
    await apply.apply(floor=0, paused=[])
    found = samples(await metrics.text())
    assert 100 < found["leaderboard_projection_lag_seconds_sum",] < 200


async def test_refusals_and_rebuilds_are_counted(add, apply, metrics, redis):
    await add(("s", "ann", 1))
    await apply.apply(floor=0, paused=[])
    before = samples(await metrics.text())
    await redis.delete(keys.board("s"), keys.meta("s"))
    await add(("s", "bob", 1))
    await apply.apply(floor=0, paused=[])
    after = samples(await metrics.text())
    assert (
        after["leaderboard_fence_refusals_total", "behind"] == before["leaderboard_fence_refusals_total", "behind"] + 1
    )
    assert after["leaderboard_board_rebuilds_total",] == before["leaderboard_board_rebuilds_total",] + 1
    assert after["leaderboard_fence_refusals_total", "late"] == 0
    assert after["leaderboard_board_writes_total", "swap", "applied"] >= 1


async def test_what_the_database_tells(add, apply, metrics, pool, dsn):
    await add(("s", "full", MAX_SCORE), ("s", "full", 1))
    await apply.apply(floor=0, paused=[])
    await add(("s", "ann", 1), ("s", "bob", 1), ("t", "cid", 1))
    async with pool.connection() as conn:
        await conn.execute(
            "insert into deliveries (season_id, epoch, url, webhook_id, body, body_digest, body_bytes, status) "
            "select 's', n, '', '', ''::bytea, ''::bytea, 0, case when n > 2 then 'failed' else 'pending' end "
            "from generate_series(1, 5) as n"
        )
        await conn.execute("update outbox set created_at = now() - interval '50 s' where user_id = 'ann'")
    async with await psycopg.AsyncConnection.connect(dsn) as reader:
        await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await reader.execute("select count(*) from outbox")
        await metrics.run()
    found = samples(await metrics.text())
    assert found["leaderboard_outbox_pending",] == 3
    assert found["leaderboard_outbox_failed",] == 1
    assert 50 <= found["leaderboard_outbox_oldest_pending_seconds",] < 100
    assert (found["leaderboard_deliveries_pending",], found["leaderboard_deliveries_failed",]) == (2, 3)
    assert found["leaderboard_oldest_snapshot_seconds",] > 0
    assert found["leaderboard_figures_up",] == 1
    assert {key[1] for key in found if key[0] == "leaderboard_dead_rows"} >= {"outbox", "standings", "seasons"}


async def test_a_worker_that_runs_serves_them(settings, add, eventually):
    served = settings.model_copy(update={"worker_health_port": free_port()})
    async with working(served):
        await add(("s", "ann", 1))
        await eventually("select 1 from outbox where status = 'pending'", gone=True)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.worker_health_port}") as http:
            while True:
                response = await http.get("/metrics")
                assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
                found = samples(response.content)
                if found["leaderboard_events_total", "done"] == 1 and found["leaderboard_figures_up",] == 1:
                    break
