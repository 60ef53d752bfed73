"""uvicorn's HTTP protocol with bounds on what a client may send and how long it may take over it.

uvicorn with httptools bounds neither. Everything refused here gets the service's JSON error and a closed connection,
after the answers to the requests before it. Must not cost the hot path anything: a request that comes whole in one
small segment passes a few comparisons, and one timer per connection replaces uvicorn's one per request.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api import whole_answers
from api.declined_upgrade import body_parser
from api.endpoint import MAX_BODY_BYTES
from api.refusals import (
    BODY_SECONDS,
    BODY_TIMEOUT,
    HEAD_SECONDS,
    HEAD_TIMEOUT,
    HEAD_TOO_LARGE,
    INVALID_HTTP,
    MAX_HEAD_BYTES,
    Refusal,
    closing_answer,
    excess,
)

WRITE_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 5
SERVER_HEADERS: Final = [("x-content-type-options", "nosniff")]
"""On every answer: a browser must not take a body for something else than it says."""

_PIECE_BYTES: Final = 4096
"""The parser gets no more at once: it takes whatever it is given, and a read can bring thousands of requests."""

_LINGER_SECONDS: Final = 1.0
"""Closing at once, with bytes unread, would reset the connection and could cost the client the answer."""

# Called on the hot path, where super() would cost as much as what is done here.
_on_headers_complete: Final = HttpToolsProtocol.on_headers_complete
_on_body: Final = HttpToolsProtocol.on_body

log = structlog.get_logger()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. `cycle` is the request whose head was last complete, `scope` the one whose head came last:
    while they differ, a head is on its way."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._clock: asyncio.TimerHandle | None = None
        self._clock_for: object = None
        self._idle_since: float | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._unproductive_bytes = 0
        self._held = b""
        self._too_large: Refusal | None = None
        self._refusal: Refusal | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._clock = self.loop.call_later(HEAD_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        self._held = b""
        self._idle_since = None
        self._unset_keepalive_if_required()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        if self._refusal is not None:
            return
        if len(data) <= _PIECE_BYTES and not self._held and not self.pipeline:
            self._feed(data)
        else:
            self._held += data
            self._feed_held()

    def on_headers_complete(self) -> None:
        if self._clock_for is self.scope:  # it came in several pieces
            self._too_large = self._excess()
            if self._too_large is not None:
                raise httptools.HttpParserError(self._too_large.message)
        self._unproductive_bytes = 0
        self._begin_cycle()

    def _begin_cycle(self) -> None:
        """The head is complete: somebody has to answer."""
        _on_headers_complete(self)

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self._unproductive_bytes = 0
        _on_body(self, body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        whole_answers.offer(cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        # uvicorn's own, but for the timer: it would arm and cancel one for every request.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._abort_when_stuck()
            return
        if len(self.pipeline) <= 1:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if cycle is self.cycle and cycle.more_body and self._clock is None:
                self._start_clock(cycle.message_event, BODY_SECONDS)  # it stood still while the request waited
        elif self._refusal is not None:
            self._answer_refusal(self._refusal)
            return
        elif self._clock is None:  # else the next head is on its way, and has a time of its own
            self._idle_since = self.loop.time()
            if self.timeout_keep_alive_task is None:
                self._await_idle_end(self.timeout_keep_alive)
        if self._held:
            self._feed_held()

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._await_idle_end(left)
        else:
            self._close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_when_stuck()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None and not self.transport.is_closing():
            self._stuck.cancel()
            self._stuck = None

    def _await_idle_end(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _feed_held(self) -> None:
        """Parse what came until a request has to wait for another; the rest stays as it is till then."""
        position = 0
        while (
            position < len(self._held)
            and not self.pipeline
            and self._refusal is None
            and not self.transport.is_closing()
        ):
            self._feed(self._held[position : position + _PIECE_BYTES])
            position += _PIECE_BYTES
        self._held = self._held[position:]
        if self.pipeline:
            self.flow.pause_reading()
            self._stop_clock()  # from here on it is not the client who is slow

    def _feed(self, piece: bytes) -> None:
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as stopped:
            self._decline_upgrade()
            if rest := piece[stopped.args[0] :]:
                self._feed(rest)
                return
        except httptools.HttpParserError:
            self._refuse(self._too_large or INVALID_HTTP)
            return
        cycle = self.cycle
        if cycle is None or cycle.scope is not self.scope:
            self._head_unfinished(len(piece))
        elif cycle.response_complete:
            self._leftover(len(piece))
        elif cycle.more_body:
            self._body_unfinished(len(piece))
        elif self._clock is not None:
            self._stop_clock()

    def _decline_upgrade(self) -> None:
        self.cycle.more_body = True
        parser = body_parser(self, self.headers)
        if parser is None:
            self.cycle.more_body = False
        else:
            self.parser = parser

    def _head_unfinished(self, size: int) -> None:
        if self._clock_for is not self.scope:
            self._start_clock(self.scope, HEAD_SECONDS)
            self._unproductive_bytes = 0  # part of the piece may belong to the request before
            return
        self._unproductive_bytes += size
        if excess := self._excess():
            self._refuse(excess)

    def _body_unfinished(self, size: int) -> None:
        if self._clock_for is not self.cycle.message_event:
            self._start_clock(self.cycle.message_event, BODY_SECONDS)
        # Chunk extensions and trailers: the parser takes them without end.
        self._unproductive_bytes += size
        if self._unproductive_bytes > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)

    def _leftover(self, size: int) -> None:
        """The rest of a body that was not waited for. There is nobody to tell what is wrong with it."""
        if self._clock_for is not self.cycle:
            self._start_clock(self.cycle, HEAD_SECONDS)
        self._unproductive_bytes += size
        if self._unproductive_bytes > MAX_BODY_BYTES:
            self._close()

    def _excess(self) -> Refusal | None:
        return excess(self.url, self.headers, self._unproductive_bytes) if self.scope is not None else None

    def _start_clock(self, waits_for: object, seconds: float) -> None:
        self._stop_clock()
        self._clock_for = waits_for
        self._clock = self.loop.call_later(seconds, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        self._clock_for = None

    def _late(self) -> None:
        self._clock = None
        if self.transport.is_closing() or self._refusal is not None:
            return
        cycle = self.cycle
        if self.scope is None or (cycle is not None and cycle.scope is self.scope and cycle.response_complete):
            self._close()  # not one byte of a request: nothing to answer
        else:
            self._refuse(BODY_TIMEOUT if cycle is not None and cycle.scope is self.scope else HEAD_TIMEOUT)

    def _refuse(self, refusal: Refusal) -> None:
        """Read no further; answer as soon as the requests before are answered, then close."""
        self._refusal = refusal
        self._held = b""
        self._stop_clock()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.scope is not self.scope or not cycle.more_body:
                return  # on_response_complete answers
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
                return
            # It is this request's own body that is malformed.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self._close()
                return
        elif cycle is not None and cycle.scope is self.scope and cycle.more_body:
            self._close()  # it was answered without its body being waited for
            return
        self._answer_refusal(refusal)

    def _answer_refusal(self, refusal: Refusal) -> None:
        request_id = secrets.token_hex(8)
        log.debug("refused", request_id=request_id, code=refusal.code, client=self.client)
        self.transport.write(closing_answer(refusal, request_id, self.server_state.default_headers))
        self.flow.resume_reading()
        self.transport.write_eof()
        self._stuck = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _close(self) -> None:
        self.transport.close()
        self._abort_when_stuck()

    def _abort_when_stuck(self) -> None:
        """A client that does not take its answer keeps neither the connection nor the buffer."""
        if self._stuck is None and self.transport.get_write_buffer_size():
            self._stuck = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
