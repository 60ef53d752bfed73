"""What the HTTP protocol refuses before any handler sees it, and how: the service's JSON error, then the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.errors import ErrorBody

MAX_HEAD_BYTES: Final = 16 * 1024
MAX_URL_BYTES: Final = 8 * 1024
HEAD_SECONDS: Final = 10.0
BODY_SECONDS: Final = 10.0


class Refusal(NamedTuple):
    status: int
    code: str
    message: str


INVALID_HTTP: Final = Refusal(400, "invalid_http", "what was sent is not an HTTP/1.1 request")
HEAD_TIMEOUT: Final = Refusal(
    408, "head_timeout", f"request line and headers must arrive within {HEAD_SECONDS:g} s of their first byte"
)
BODY_TIMEOUT: Final = Refusal(408, "body_timeout", f"the body did not arrive within {BODY_SECONDS:g} s")
URL_TOO_LONG: Final = Refusal(414, "url_too_long", f"the request's target must be at most {MAX_URL_BYTES} bytes")
HEAD_TOO_LARGE: Final = Refusal(
    431, "head_too_large", f"request line and headers must be at most {MAX_HEAD_BYTES} bytes together"
)


def excess(url: bytes, headers: Sequence[tuple[bytes, bytes]], seen_bytes: int) -> Refusal | None:
    """What is too large about a head of which so much is known, if anything.

    `seen_bytes` were fed to the parser, which does not show a header before its end.
    """
    if len(url) > MAX_URL_BYTES:
        return URL_TOO_LONG
    known = len(url) + sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
    return HEAD_TOO_LARGE if max(known, seen_bytes) > MAX_HEAD_BYTES else None


def closing_answer(refusal: Refusal, request_id: str, more_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer, as it goes over the wire."""
    body = msgspec.json.encode(ErrorBody(refusal.message, refusal.code, request_id))
    headers = [
        *more_headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        (b"x-request-id", request_id.encode()),
    ]
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return b"%s%s\r\n%s" % (STATUS_LINE[refusal.status], lines, body)
