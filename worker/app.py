"""The composition root of a worker process: settings in, batches out, everything closed at its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from shared.postgres import connection_settings, create_pool
from shared.projection import Projection
from shared.redis_client import create_client
from shared.settings import ServiceSettings
from shared.wakeups import follow_wakeups
from shared.webhook_signature import secrets_in
from worker.batch import STEPS, Batch, BatchApplier, Reach
from worker.deliveries import DELIVERY_STEPS, Deliveries
from worker.floor import Floor
from worker.health import health_server
from worker.loop import Loop
from worker.metrics import WorkerMetrics
from worker.schedules import SCHEDULE_STEPS, ScheduledResets, SeasonEnds
from worker.scrub import Scrub
from worker.sealer import SEAL_STEPS, Sealer
from worker.snapshots import SNAPSHOT_STEPS, Snapshots
from worker.sweep import SWEEP_STEPS, Sweep
from worker.upkeep import Audit, FloorSweep, PlayerIndex, Purge, every
from worker.webhook_post import WebhookPost

_FLOOR_SECONDS: Final = 1.0
_PURGE_SECONDS: Final = 10.0
_SCRUB_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 1.0
_SNAPSHOTS_SECONDS: Final = 5.0
_SEAL_SECONDS: Final = 1.0
_SCHEDULES_SECONDS: Final = 0.5
_DELIVERIES_SECONDS: Final = 1.0
_REDIS_SECONDS: Final = 2.0
_INDEX_SECONDS: Final = 1.0
_FIGURES_SECONDS: Final = 5.0
_CONNECTIONS: Final = 15
"""Two lanes of batches, floor, audit, sweep of windows, index on players, purge, scrub, figures, sealing, schedules,
ends of seasons, deliveries, snapshots, /readyz; beside them the ones that seal and that make snapshots."""
_STATEMENT_SECONDS: Final = 10
_SEALING_STATEMENT_SECONDS: Final = 3600
_SNAPSHOT_STATEMENT_SECONDS: Final = 300
"""A season of ten million players takes about two minutes."""
_FINISH_SECONDS: Final = 4.0
"""How long the batch under way may take to finish after SIGTERM; then it is rolled back."""

log = structlog.get_logger()


def worker_connection(settings: ServiceSettings) -> str:
    """How this process connects: a worker that hangs inside a batch loses its locks after 15 s."""
    return connection_settings(
        settings.postgres_dsn,
        "worker",
        statement_ms=_STATEMENT_SECONDS * 1000,
        lock_ms=500,
        idle_in_transaction_ms=15_000,
        # Before a table's first statistics a bitmap looks cheaper to the planner; each claim would sort the backlog.
        enable_bitmapscan="off",
    )


def snapshot_connection(settings: ServiceSettings) -> str:
    """How snapshots are made."""
    return _patient_connection(settings, "snapshots", _SNAPSHOT_STATEMENT_SECONDS)


def sealing_connection(settings: ServiceSettings) -> str:
    """How it connects where one statement goes through the ledger of a whole epoch."""
    return _patient_connection(settings, "worker", _SEALING_STATEMENT_SECONDS)


def _patient_connection(settings: ServiceSettings, process: str, statement_seconds: int) -> str:
    """Of a session that may take its time, and holds no season's lock but at its end."""
    return connection_settings(
        settings.postgres_dsn,
        process,
        statement_ms=statement_seconds * 1000,
        lock_ms=5000,
        idle_in_transaction_ms=15_000,
    )


async def run_worker(settings: ServiceSettings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; then finish the batch under way, or roll it back after 4 s."""
    pool = create_pool(
        worker_connection(settings),
        max_size=min(_CONNECTIONS, settings.db_pool_max),
        patience_seconds=_STATEMENT_SECONDS + 5,
    )
    sealing_pool = create_pool(
        sealing_connection(settings), min_size=0, max_size=1, patience_seconds=_SEALING_STATEMENT_SECONDS + 5
    )
    client = create_client(settings.redis_url, "worker", timeout_seconds=_REDIS_SECONDS, retries=2)
    metrics = WorkerMetrics(pool)
    projection = Projection(client, metrics.answered)
    listener = create_client(settings.redis_url, "worker-wakeups", timeout_seconds=_REDIS_SECONDS, retries=0)
    floor, hint = Floor(), asyncio.Event()
    reach = fault_point(settings.fault_point)
    applied, follow, close_traces = tracing(settings, metrics)
    applier = BatchApplier(pool, projection, settings.outbox_batch_size, reach, applied, follow=follow)
    loop = Loop(
        applier,
        pool,
        projection,
        floor,
        hint,
        batch_size=settings.outbox_batch_size,
        poll_seconds=settings.outbox_poll_ms / 1000,
    )
    purge = Purge(
        pool,
        projection,
        settings.outbox_retention_hours,
        settings.idempotency_retention_hours,
        settings.archive_retention_days,
    )
    secret = settings.webhook_secret
    post = WebhookPost(secrets_in(secret.get_secret_value()) if secret else (), settings.webhook_targets)
    periodic: list[tuple[float, Callable[[], Awaitable[float | None]]]] = [
        (_FLOOR_SECONDS, FloorSweep(pool, floor).run),
        (settings.audit_interval_ms / 1000, Audit(pool, projection).run),
        (_SWEEP_SECONDS, Sweep(pool, projection, reach).run),
        (_INDEX_SECONDS, PlayerIndex(pool).run),
        (_SEAL_SECONDS, Sealer(pool, sealing_pool, reach).run),
        (_SCHEDULES_SECONDS, ScheduledResets(pool, projection, reach).run),
        (_SCHEDULES_SECONDS, SeasonEnds(pool, reach).run),
        (_DELIVERIES_SECONDS, Deliveries(pool, post, reach).run),
        (_FIGURES_SECONDS, metrics.run),
        (_PURGE_SECONDS, purge.run),
    ]
    if settings.scrub_players_per_second:
        periodic.append((_SCRUB_SECONDS, Scrub(pool, projection, settings.scrub_players_per_second, stop).run))
    if settings.snapshot_events:
        kept = Snapshots(pool, snapshot_connection(settings), settings.snapshot_events, reach)
        periodic.append((_SNAPSHOTS_SECONDS, kept.run))
    health = health_server(pool, client, lambda: loop.last_turn, metrics.text, settings)
    try:
        await pool.open()
        await sealing_pool.open()
        async with asyncio.TaskGroup() as tasks:
            batches = tasks.create_task(loop.run(stop))
            serving = tasks.create_task(health.serve())
            listening = tasks.create_task(follow_wakeups(listener, hint.set))
            upkeep = [tasks.create_task(every(seconds, task, stop)) for seconds, task in periodic]
            log.info("worker started", batch_size=settings.outbox_batch_size, poll_ms=settings.outbox_poll_ms)
            await stop.wait()
            asyncio.get_running_loop().call_later(_FINISH_SECONDS + 0.5, _leave)
            _, unfinished = await asyncio.wait([batches, *upkeep], timeout=_FINISH_SECONDS)
            for task in unfinished:
                task.cancel()
            listening.cancel()
            health.should_exit = True
            await serving
    finally:
        await listener.aclose()
        await client.aclose()
        await sealing_pool.close(timeout=0.5)
        await pool.close(timeout=0.5)
        close_traces()
    log.info("worker stopped", finished=not unfinished)


def _leave() -> None:
    """Last resort of a stop: a server that does not even answer a cancellation must not keep us. Both servers undo
    what was not committed once our connections are gone."""
    log.warning("worker left without an answer from its servers")
    os._exit(0)


def tracing(
    settings: ServiceSettings, metrics: WorkerMetrics
) -> tuple[Callable[[Batch], None], int, Callable[[], None]]:
    """What hears of batches, how many events of each it follows, and what ends it. Where nothing is traced, nothing of
    opentelemetry is loaded."""
    if not settings.traces_sample:
        return metrics.applied, 0, lambda: None
    from shared.traces import Traces  # noqa: PLC0415
    from worker.traces import FOLLOWED, BatchTraces  # noqa: PLC0415

    traces = Traces("worker")
    batches = BatchTraces(traces)

    def applied(batch: Batch) -> None:
        metrics.applied(batch)
        batches.applied(batch)

    return applied, FOLLOWED, traces.close


def fault_point(point: str | None) -> Reach:
    """In production nothing; in tests the process is killed, or with `:stop` behind the step stopped, when it reaches
    the step for the first time."""
    if point is None:
        return lambda _step: None
    step, _, action = point.partition(":")
    steps = (*STEPS, *SWEEP_STEPS, *SEAL_STEPS, *SCHEDULE_STEPS, *DELIVERY_STEPS, *SNAPSHOT_STEPS)
    if step not in steps or action not in ("", "stop"):
        raise ValueError(f"FAULT_POINT must be one of {', '.join(steps)}, or one with :stop behind it, not {point!r}")
    reached_before = False

    def reach(reached: str) -> None:
        nonlocal reached_before
        if reached == step and not reached_before:
            reached_before = True
            os.kill(os.getpid(), signal.SIGSTOP if action else signal.SIGKILL)

    return reach
