"""Server-sent events as they go over the wire, each a chunk of the answer. Pure.

The format is the HTML standard's (9.2), the chunk's RFC 9112's (7.1). Data is JSON, which holds no line break.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

CONTENT_TYPE: Final = b"text/event-stream"

_ID: Final = re.compile(rb"([0-9a-f]{16})(?:\.([0-9a-f]{16}))?")


class State(NamedTuple):
    """What a GET would answer now, and the tag that names it."""

    tag: bytes
    data: bytes


class Seen(NamedTuple):
    """The tags of what a client was shown last; empty = nothing yet."""

    top: bytes = b""
    rank: bytes = b""


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


def comment(text: bytes) -> bytes:
    """What clients pass by; text without line breaks."""
    return chunk(b":%b\n\n" % text)


HEARTBEAT: Final = comment(b"")


def retry(milliseconds: int) -> bytes:
    """How long a client is to wait before it connects anew."""
    return chunk(b"retry: %d\n\n" % milliseconds)


def event(name: bytes, seen: Seen, data: bytes) -> bytes:
    """An event; `seen`: what the client has been shown with it, which its id says."""
    event_id = b"%b.%b" % seen if seen.rank else seen.top
    return chunk(b"event: %b\nid: %b\ndata: %b\n\n" % (name, event_id, data))


def seen_by(last_event_id: bytes | None) -> Seen:
    """What a client says that it was shown last; nothing where the id is none of ours."""
    known = None if last_event_id is None else _ID.fullmatch(last_event_id)
    return Seen() if known is None else Seen(known[1], known[2] or b"")
