"""Traces of one process, by OpenTelemetry, to a collector that the SDK's own variables name (OTEL_EXPORTER_OTLP_…).

Loads opentelemetry: imported only by what is made where TRACES_SAMPLE is not 0. Spans are told when they are over, with
the times at which they were; nothing is awaited, and no context is carried along. What goes out goes by a thread of the
SDK's, from a queue that drops what is too much.
"""

from __future__ import annotations

import threading
from typing import Final, Literal

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

_CLOSE_SECONDS: Final = 1.0
"""For what is still in the queue when the process ends; a collector that is down may not hold it up."""

_HEADER: Final = "traceparent"
_MAX_LENGTH: Final = 512
"""The SDK warns in the log of longer ones: of each."""

_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Traces:
    """Spans of one process. Who asks for a span has decided that it is kept."""

    def __init__(self, process: Literal["api", "worker"]) -> None:
        self._provider = TracerProvider(
            ALWAYS_ON,
            Resource.create({SERVICE_NAME: f"leaderboard-{process}"}),
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("leaderboard")

    def begin(
        self,
        name: str,
        parent: str | None,
        started_ns: int,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
    ) -> Span:
        """A span below that of a traceparent, None = the first of its trace. Times are nanoseconds since
        1970."""
        context = Context() if parent is None else _PROPAGATOR.extract({_HEADER: parent}, Context())
        return self._tracer.start_span(name, context, kind, attributes, start_time=started_ns)

    def close(self) -> None:
        """Send what waits, within a second; what can't be sent by then is lost."""
        # A thread that nobody waits for: the SDK's own bound is half a minute, and one request may take ten seconds.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)


def decided(traceparent: str | None) -> bool | None:
    """Whether the caller keeps its trace; None where it says nothing, or nothing that is well-formed."""
    if traceparent is None or len(traceparent) > _MAX_LENGTH:
        return None
    found = trace.get_current_span(_PROPAGATOR.extract({_HEADER: traceparent}, Context())).get_span_context()
    return found.trace_flags.sampled if found.is_valid else None


def traceparent_of(span: Span) -> str:
    """How another process names the span as the parent of its own (W3C Trace Context)."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def end(span: Span, ended_ns: int, *, failed: bool = False) -> None:
    if failed:
        span.set_status(Status(StatusCode.ERROR))
    span.end(ended_ns)
