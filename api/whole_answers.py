"""An answer that is there as a whole goes out in one write.

Offered by our HTTP protocol beside ASGI's messages: two of them, two regular expressions for each header and two writes
take longer than all that a handler does for a kept answer. What does not fit goes the way of the messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias
from weakref import ref

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_KEY: Final = "leaderboard.whole_answer"

SendWhole: TypeAlias = Callable[[int, bytes, bytes], bool]
"""Takes status, lines of headers that are known to be well-formed (content-length among them, but no connection) and
body. Returns whether it took them."""


def offer(cycle: RequestResponseCycle) -> None:
    """Let the application of this request answer in one write."""
    # Weakly: the scope is the cycle's own, and every request would be garbage that only the collector finds.
    cycle.scope[_KEY] = partial(_send, ref(cycle))  # type: ignore[typeddict-unknown-key]


def take(scope: Scope) -> SendWhole | None:
    """What the server offered, None where it did not. It is then no longer in the scope."""
    taken: SendWhole | None = scope.pop(_KEY, None)
    return taken


def _send(of: ref[RequestResponseCycle], status: int, lines: bytes, body: bytes) -> bool:
    cycle = of()
    assert cycle is not None  # the server's task holds it while the application runs
    if cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive or cycle.scope["method"] == "HEAD":
        return False
    # As RequestResponseCycle.send does it.
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(encoded(status, server_lines(cycle.default_headers), lines, body))
    cycle.message_event.set()
    cycle.on_response()
    return True


def server_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The server's own headers as they go over the wire."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def encoded(status: int, of_server: bytes, lines: bytes, body: bytes) -> bytes:
    """The answer as it goes over the wire: the server's headers, then `lines`."""
    return b"%b%b%b\r\n%b" % (STATUS_LINE[status], of_server, lines, body)
