"""The API's HTTP protocol: what games ask all the time is answered directly (`api.direct_cycle`).

Everything else, and each request that is not as every client sends it, goes uvicorn's way, by a cycle and a task. What
bounds all of them is in `api.http_protocol`.
"""

from __future__ import annotations

import time
from typing import Any, Final, cast

from starlette.types import Scope

from api.answers import Answer, head_of, header_lines
from api.direct_cycle import DirectCycle
from api.endpoint import Endpoint
from api.front import Front
from api.open_answers import OpenAnswersProtocol
from api.whole_answers import encoded, server_lines

_MAX_DIGITS: Final = 4
"""Of a body's length: 9,999 bytes hold any score."""


class DirectHttpProtocol(OpenAnswersProtocol):
    """One connection. `_ready` is a request that is there as a whole and has not begun; there is no other before it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._front = self.app if isinstance(self.app, Front) else None
        self._direct: DirectCycle | None = None  # `cycle`, where that is one
        self._of_server: object = None
        self._server_lines = b""
        self._ready: DirectCycle | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._ready is not None:
            self._begin(self._ready)

    def shutdown(self) -> None:
        super().shutdown()
        if self._front is not None:
            self._front.stop()

    def on_body(self, body: bytes) -> None:
        if self._direct is None:
            super().on_body(body)
        else:
            self._unproductive_bytes = 0
            self._direct.body += body

    def on_message_complete(self) -> None:
        if self._direct is None:
            super().on_message_complete()
        else:
            self._direct.more_body = False
            self._ready = self._direct

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._ready is not None:  # it was parsed just now, and what is behind it waits for it
            self._begin(self._ready)

    def _begin_cycle(self) -> None:
        before, scope = self.cycle, cast("Scope", self.scope)
        endpoint = self._direct_endpoint(scope) if before is None or before.response_complete else None
        if endpoint is None:
            self._direct = None
            super()._begin_cycle()
        else:
            self.cycle = self._direct = DirectCycle(scope, endpoint)  # type: ignore[assignment]

    def _direct_endpoint(self, scope: Scope) -> Endpoint | None:
        parser, head = self.parser, head_of(scope)
        if (
            self._front is None
            or self.expect_100_continue
            or self.flow.write_paused  # a client that does not read waits until its answers fit
            or not parser.should_keep_alive()
            or parser.should_upgrade()  # it would take the head for the whole request
            or parser.get_http_version() != "1.1"
        ):
            return None
        method = parser.get_method()
        digits = len(head.get(b"content-length", b""))
        if b"transfer-encoding" in head or not (0 < digits <= _MAX_DIGITS if method == b"POST" else digits == 0):
            return None  # a body that is long, or of unknown length, or one that nobody reads
        return self._front.finds(method, self.url, scope)

    def _begin(self, cycle: DirectCycle) -> None:
        self._ready = None
        cycle.began = time.perf_counter()
        assert self._front is not None
        begun = self._front.begin(cycle.endpoint, cycle.scope, cycle.body)
        if isinstance(begun, Answer):
            self._answer(cycle, begun)
        else:
            cycle.run(begun, self._answer)

    def _answer(self, cycle: DirectCycle, answer: Answer) -> None:
        cycle.response_started = cycle.response_complete = True
        assert self._front is not None
        self._front.note(cycle.scope, answer.status, time.perf_counter() - cycle.began)
        if cycle.disconnected:
            return
        lines = header_lines(cycle.scope, answer)
        if not cycle.keep_alive:
            lines += b"connection: close\r\n"
        of_server = self.server_state.default_headers
        if of_server is not self._of_server:  # every second, as the date changes
            self._of_server, self._server_lines = of_server, server_lines(of_server)
        self.transport.write(encoded(answer.status, self._server_lines, lines, answer.body))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()
