"""What a worker counts, for /metrics: its batches by phase, what boards answered, and what the database tells."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from shared.figures import figures
from shared.metrics import SECONDS, SIZES, own_registry, text_of
from shared.postgres import Pool
from worker.batch import Batch

PHASES: Final = ("claim", "lock", "fold", "show", "commit")
"""Of a batch, as `worker.batch.STEPS` end them."""

_LAGS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class WorkerMetrics:
    """Of one process. `run` asks the database for its figures, once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        registry = self._registry = own_registry()
        self._batch_events = Histogram(
            "leaderboard_batch_events", "Events that a batch applied.", buckets=SIZES, registry=registry
        )
        phases = Histogram(
            *("leaderboard_batch_phase_seconds", "What each phase of a batch took.", ("phase",)),
            buckets=SECONDS,
            registry=registry,
        )
        self._phases = [phases.labels(phase) for phase in PHASES]
        events = Counter(
            "leaderboard_events", "Events applied, by what became of them.", ("outcome",), registry=registry
        )
        self._done, self._failed = events.labels("done"), events.labels("failed")
        self._lag = Histogram(
            *("leaderboard_projection_lag_seconds", "From an event's commit to the board: the oldest of each batch."),
            buckets=_LAGS,
            registry=registry,
        )
        self._board_writes = Counter(
            *("leaderboard_board_writes", "What boards answered to scripts.", ("script", "verdict")), registry=registry
        )
        self._refusals = Counter(
            *("leaderboard_fence_refusals", "Writes that a board's fence refused.", ("reason",)), registry=registry
        )
        self._rebuilds = Counter("leaderboard_board_rebuilds", "Boards that were built anew.", registry=registry)
        for reason in ("late", "behind", "moved"):
            self._refusals.labels(reason)
        self._pending = Gauge("leaderboard_outbox_pending", "Events that wait, up to 1,000,000.", registry=registry)
        self._failed_now = Gauge("leaderboard_outbox_failed", "Events that the database refused.", registry=registry)
        self._oldest = Gauge(
            "leaderboard_outbox_oldest_pending_seconds", "How long the oldest event has waited.", registry=registry
        )
        self._deliveries_pending = Gauge(
            "leaderboard_deliveries_pending", "Final ranks that are to be sent.", registry=registry
        )
        self._deliveries_failed = Gauge(
            "leaderboard_deliveries_failed", "Final ranks whose receiver did not take them.", registry=registry
        )
        self._dead = Gauge(
            "leaderboard_dead_rows", "Rows that vacuum has not removed yet, estimated.", ("table",), registry=registry
        )
        self._snapshot = Gauge(
            "leaderboard_oldest_snapshot_seconds", "The oldest transaction that vacuum must heed.", registry=registry
        )
        self._figures_up = Gauge(
            "leaderboard_figures_up", "1 where the database told its figures the last time.", registry=registry
        )

    def applied(self, batch: Batch) -> None:
        """A batch was committed."""
        self._batch_events.observe(batch.events)
        for phase, seconds in zip(self._phases, batch.seconds, strict=True):
            phase.observe(seconds)
        self._done.inc(batch.events - batch.failed)
        self._failed.inc(batch.failed)
        self._lag.observe(batch.lag_seconds)

    def answered(self, script: str, verdict: str) -> None:
        """A board answered to a script that writes."""
        self._board_writes.labels(script, verdict).inc()
        if verdict in ("late", "behind", "moved"):
            self._refusals.labels(verdict).inc()
        if script == "swap" and verdict == "applied":
            self._rebuilds.inc()

    async def run(self) -> None:
        """Ask the database. Raises what psycopg raises."""
        self._figures_up.set(0)
        async with self._pool.connection() as conn:
            found = await figures(conn)
        self._pending.set(found.pending)
        self._failed_now.set(found.failed)
        self._oldest.set(found.oldest_pending_seconds)
        self._deliveries_pending.set(found.deliveries_pending)
        self._deliveries_failed.set(found.deliveries_failed)
        for table, rows in found.dead_rows.items():
            self._dead.labels(table).set(rows)
        self._snapshot.set(found.oldest_snapshot_seconds)
        self._figures_up.set(1)

    async def text(self) -> bytes:
        """As Prometheus reads it."""
        return await asyncio.to_thread(text_of, self._registry.collect())
