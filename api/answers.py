"""What a handler returns and how it goes out: nothing is built that is not sent."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
from starlette.types import Message, Scope, Send

from api import whole_answers

Header: TypeAlias = tuple[bytes, bytes]

_REQUEST_ID: Final = "leaderboard.request_id"
_STATUS: Final = "leaderboard.status"
_HEAD: Final = "leaderboard.head"

# A cache may keep the answer and must ask each time whether it still holds.
_NO_CACHE: Final = (b"cache-control", b"no-cache")

NO_STORE: Final = (b"cache-control", b"no-store")
"""For what holds at this moment only and has no tag to ask by."""


JSON: Final = b"application/json"


GoOn: TypeAlias = Callable[[Scope, Send, Message], Awaitable[None]]
"""Is given the message that begins the answer, sends it and what follows, for as long as it likes."""


class Answer(NamedTuple):
    """A body; none with status 304. `headers` go beside those that every answer has. With `go_on` there is no body of
    known length: it sends all that there is to send, but to HEAD."""

    status: int
    body: bytes
    headers: Sequence[Header] = ()
    content_type: bytes = JSON
    go_on: GoOn | None = None


def json_answer(value: Any, status: int = 200, headers: Sequence[Header] = ()) -> Answer:
    return Answer(status, msgspec.json.encode(value), headers)


def name_of(body: bytes) -> bytes:
    """16 hexadecimal digits that another body has not."""
    return hashlib.blake2b(body, digest_size=8).hexdigest().encode()


class TaggedAnswer:
    """A body and its ETag (RFC 9110, 8.8.3)."""

    __slots__ = ("_tag", "_unchanged", "_whole", "body", "name")

    def __init__(
        self, body: bytes, content_type: bytes = JSON, further: Sequence[Header] = (), *, cache: Header = _NO_CACHE
    ) -> None:
        self.body = body
        self.name = name_of(body)
        self._tag = b'"%b"' % self.name
        headers = ((b"etag", self._tag), cache, *further)
        self._whole = Answer(200, body, headers, content_type)
        self._unchanged = Answer(304, b"", headers)

    def to(self, if_none_match: bytes | None) -> Answer:
        """What a client gets that sent this If-None-Match: 304 where it has the body already."""
        if if_none_match is not None and (self._tag in if_none_match or if_none_match == b"*"):
            return self._unchanged
        return self._whole


def rate_limit_headers(limit: str, quota: int, window_seconds: int, left: int, reset_seconds: int) -> Sequence[Header]:
    """How much of a limit is left (draft-ietf-httpapi-ratelimit-headers): `left` now, all of it in `reset_seconds`."""
    name = limit.encode()
    return (
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, quota, window_seconds)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (name, left, reset_seconds)),
    )


async def send_answer(scope: Scope, send: Send, answer: Answer) -> None:
    """Send it, with the id of its request."""
    status, body, go_on = answer.status, answer.body, answer.go_on
    if go_on is None:
        set_status(scope, status)
    lines = header_lines(scope, answer)
    send_whole = whole_answers.take(scope)
    # With 413 the server must see that the connection ends.
    if send_whole is not None and status != 413 and go_on is None and send_whole(status, lines, body):
        return
    headers = [tuple(line.split(b": ", 1)) for line in lines.splitlines()]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    if go_on is not None and scope["method"] != "HEAD":
        await go_on(scope, send, start)
        return
    await send(start)
    await send({"type": "http.response.body", "body": body})


def header_lines(scope: Scope, answer: Answer) -> bytes:
    """All headers of the answer to this request but those of the server itself, as they go over the wire."""
    status, body, headers, content_type, go_on = answer
    further = b"".join([b"%b: %b\r\n" % header for header in headers]) if headers else b""
    if status == 304:
        return b"%bx-request-id: %b\r\n" % (further, scope[_REQUEST_ID])
    if go_on is not None:
        return b"content-type: %b\r\n%bx-request-id: %b\r\n" % (content_type, further, scope[_REQUEST_ID])
    return b"content-type: %b\r\ncontent-length: %d\r\n%bx-request-id: %b\r\n" % (
        content_type,
        len(body),
        further,
        scope[_REQUEST_ID],
    )


def set_status(scope: Scope, status: int) -> None:
    scope[_STATUS] = status


def status_of(scope: Scope) -> int | None:
    """What the request was answered with, None where it was not, or goes on."""
    status: int | None = scope.get(_STATUS)
    return status


def set_request_id(scope: Scope, own: bytes) -> None:
    scope[_REQUEST_ID] = own


def request_id(scope: Scope) -> str:
    own: bytes = scope[_REQUEST_ID]
    return own.decode()


def head_of(scope: Scope) -> dict[bytes, bytes]:
    """The request's headers by name (lower case); of several the first."""
    head: dict[bytes, bytes] | None = scope.get(_HEAD)
    if head is None:
        head = scope[_HEAD] = dict(reversed(scope["headers"]))
    return head
