"""Spans of batches, for the events in them that are traced: `apply`, and below it the phases of its batch.

Imported only where TRACES_SAMPLE is not 0. No span holds the id of a player.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from opentelemetry.trace import SpanKind

from shared.traces import Traces, end, traceparent_of
from worker.batch import Batch
from worker.metrics import PHASES

FOLLOWED: Final = 20
"""Events of a batch of which is told, at most: 120 spans, which take some milliseconds."""


class BatchTraces:
    def __init__(self, traces: Traces, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._traces = traces
        self._clock_ns = clock_ns

    def applied(self, batch: Batch) -> None:
        """A batch was committed just now."""
        if not batch.followed:
            return
        ended_ns = self._clock_ns()
        *starts, last = accumulate((round(seconds * 1e9) for seconds in batch.seconds), initial=0)
        phases = [
            (name, ended_ns - last + start, ended_ns - last + stop)
            for name, start, stop in zip(PHASES, starts, (*starts[1:], last), strict=True)
        ]
        told = {"leaderboard.batch.events": batch.events, "leaderboard.batch.seasons": batch.seasons}
        for parent, failed in batch.followed:
            whole = self._traces.begin("apply", parent, ended_ns - last, kind=SpanKind.CONSUMER, attributes=told)
            for name, started, stopped in phases:
                end(self._traces.begin(name, traceparent_of(whole), started), stopped)
            end(whole, ended_ns, failed=failed)
