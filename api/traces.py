"""Which requests with scores are traced, and their spans: the request, and below it the commit that its score shared.

Imported only where TRACES_SAMPLE is not 0. No span holds the id of a player.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.trace import Span, SpanKind

from api.answers import Answer, request_id
from api.endpoint import Call, Handler
from api.metrics import label_of
from shared.errors import LeaderboardError
from shared.scores import Score
from shared.traces import Traces, decided, end, traceparent_of

_PER_SECOND: Final = 100
"""Traces that begin in a process, at most: a caller that traces all it does must not make each score cost a millisecond
of two processes."""

_TRACEPARENT: Final = b"traceparent"


class Budget:
    """So many a second, by the clock's whole seconds."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._left = per_second

    def take(self, now_seconds: int) -> bool:
        """Whether there is one left."""
        if now_seconds != self._second:
            self._second, self._left = now_seconds, self._per_second
        self._left -= 1
        return self._left >= 0


class RequestTraces:
    """`share`: of the requests whose callers do not say whether they are traced."""

    def __init__(self, traces: Traces, share: float, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._traces = traces
        self._share = share
        self._clock_ns = clock_ns
        self._budget = Budget(_PER_SECOND)

    def traced(self, route: str, handler: Handler) -> Handler:
        """The handler, with a span for each of its requests that is traced."""

        route = label_of(route)

        async def handle(call: Call) -> Answer:
            span = self._begin(route, call)
            if span is None:
                return await handler(call)
            call.follow(traceparent_of(span))
            status = 500
            try:
                answer = await handler(call)
                status = answer.status
            except LeaderboardError as error:
                status = error.status
                raise
            finally:
                span.set_attribute("http.response.status_code", status)
                end(span, self._clock_ns(), failed=status >= 500)
            return answer

        return handle

    def committed(self, scores: Sequence[Score], seconds: float) -> None:
        """Scores were committed together just now: a span for each that is traced."""
        followed = [score for score in scores if score.traceparent is not None]
        if not followed:
            return
        ended_ns = self._clock_ns()
        for score in followed:
            # A season is what batches wait for each other by; its id names no person.
            told: dict[str, str | int] = {
                "leaderboard.season_id": score.season_id,
                "leaderboard.commit.scores": len(scores),
            }
            started_ns = ended_ns - round(seconds * 1e9)
            end(self._traces.begin("commit", score.traceparent, started_ns, attributes=told), ended_ns)

    def _begin(self, route: str, call: Call) -> Span | None:
        header = call.header(_TRACEPARENT)
        parent = None if header is None else header.decode("latin-1")
        kept = decided(parent)
        if kept is None:
            parent, kept = None, random.random() < self._share  # noqa: S311 - a sample
        now_ns = self._clock_ns()
        if not kept or not self._budget.take(now_ns // 1_000_000_000):
            return None
        told = {
            "http.request.method": call.scope["method"],
            "http.route": route,
            "leaderboard.request_id": request_id(call.scope),
        }
        name = f"{call.scope['method']} {route}"
        return self._traces.begin(name, parent, now_ns, kind=SpanKind.SERVER, attributes=told)
