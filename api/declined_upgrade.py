"""Reading on after a client offered another protocol (`Upgrade: h2c`, as Java's client does on every plain request).

The parser stops at such a head and skips the body, which would then be taken for the next request. A new parser is
told how long the body is and reads on. It must pass on nothing of that head a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import httptools

_FRAMING = (b"content-length", b"transfer-encoding")


class Listener(Protocol):
    """What is told of requests."""

    def on_message_begin(self) -> None: ...
    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, body: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


def body_parser(listener: Listener, headers: Sequence[tuple[bytes, bytes]]) -> httptools.HttpRequestParser | None:
    """A parser that goes on with the body of the request with these headers; None where it has no body."""
    framing = [b"%s: %s\r\n" % (name, value) for name, value in headers if name in _FRAMING]
    if not framing:
        return None
    parser = httptools.HttpRequestParser(_FromBodyOn(listener))
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
    parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(framing))
    return parser


class _FromBodyOn:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._past_first = False
        self.on_body = listener.on_body

    def on_message_begin(self) -> None:
        if self._past_first:
            self._listener.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._past_first:
            self._listener.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._past_first:
            self._listener.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._past_first:
            self._listener.on_headers_complete()

    def on_message_complete(self) -> None:
        self._past_first = True
        self._listener.on_message_complete()
