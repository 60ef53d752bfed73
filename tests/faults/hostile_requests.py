"""Makes requests that no honest client sends, out of ones that it does. Pure: the same seed and number, the same bytes.

A case is what one connection sends, in pieces, and what its client does then.
"""

from __future__ import annotations

import json
import random
from typing import NamedTuple

from faults.hostile_tokens import (
    BODIES,
    CODINGS,
    DELTAS,
    HEADERS,
    KEYS,
    LENGTHS,
    METHODS,
    OTHER_TARGETS,
    PATHS,
    QUERIES,
    SIDS,
    SIZES,
    USERS,
    VERSIONS,
)

MIB = 1024 * 1024


class Case(NamedTuple):
    kind: str
    pieces: list[bytes]
    leaves: bool = False
    """The client goes without waiting for anything: whether its scores are stored is open."""


def case(seed: str, number: int) -> Case:
    """What connection `number` of this seed does."""
    draw = random.Random(f"{seed}/{number}")
    kinds = [
        _valid,
        _start_line,
        _header,
        _length,
        _coding,
        _chunks,
        _json,
        _json,
        _body,
        _mutated,
        _mutated,
        _pipelined,
    ]
    kind = draw.choice([*kinds, _leaving]) if draw.random() < 0.97 else _large
    made = kind(draw, number)
    payload = made if isinstance(made, bytes) else made.pieces[0]
    return Case(kind.__name__[1:], _split(draw, payload), leaves=kind is _leaving)


def request(method: bytes, target: bytes, body: bytes | None = None, *headers: bytes, version=b"HTTP/1.1") -> bytes:
    lines = [b"%s %s %s" % (method, target, version), b"host: x", *headers]
    if body is not None and not any(line.lower().startswith((b"content-length", b"transfer-")) for line in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def score(number: int, delta: int = 1) -> bytes:
    return json.dumps({"userId": f"c{number}", "delta": delta}).encode()


def scores_path(season: bytes) -> bytes:
    return b"/v1/seasons/%s/scores" % season


def _ending(draw) -> list[bytes]:
    return [b"connection: close"] if draw.random() < 0.8 else []


def _valid(draw, number, *headers) -> bytes:
    headers = [*headers, *_ending(draw)]
    if draw.random() < 0.6:
        return request(
            b"POST", scores_path(b"s%d" % draw.randrange(7)), score(number, draw.randrange(1, 100)), *headers
        )
    season = b"/v1/seasons/s%d" % draw.randrange(7)
    target = draw.choice([b"/top?limit=5", b"/rank?userId=c%d" % draw.randrange(99), b"/around?userId=c1&range=2"])
    return request(b"GET", season + b"/leaderboard" + target, None, *headers)


def _start_line(draw, number) -> bytes:
    target = b"/v1/seasons/%s%s%s" % (draw.choice(SIDS), draw.choice(PATHS), draw.choice(QUERIES))
    if draw.random() < 0.2:
        target = draw.choice(OTHER_TARGETS)
    method = draw.choice(METHODS) if draw.random() < 0.4 else draw.choice([b"GET", b"POST", b"DELETE"])
    version = draw.choice(VERSIONS) if draw.random() < 0.3 else b"HTTP/1.1"
    body = score(number) if draw.random() < 0.5 else None
    return request(method, target, body, *_ending(draw), version=version)


def _header(draw, number) -> bytes:
    return _valid(draw, number, *draw.choices(HEADERS, k=draw.randrange(1, 4)))


def _length(draw, number) -> bytes:
    own = score(number)
    lengths = [
        b"content-length: " + value for value in draw.choices([*LENGTHS, b"%d" % len(own)], k=draw.randrange(1, 3))
    ]
    if draw.random() < 0.3:
        lengths.append(b"transfer-encoding: " + draw.choice(CODINGS))
    draw.shuffle(lengths)
    return request(b"POST", scores_path(b"length"), own, *lengths, *_ending(draw))


def _coding(draw, number) -> bytes:
    own = score(number)
    headers = [b"transfer-encoding: " + draw.choice(CODINGS)]
    if draw.random() < 0.3:
        headers.append(b"content-length: %d" % draw.choice([0, len(own), 5]))
    hidden = request(b"POST", scores_path(b"hidden"), score(number)) if draw.random() < 0.3 else b""
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(own), own)
    return request(b"POST", scores_path(b"coding"), draw.choice([chunked, own]), *headers, *_ending(draw)) + hidden


def _chunks(draw, number) -> bytes:
    own, chunks, position = score(number), b"", 0
    while position < len(own):
        size = draw.randrange(1, 20)
        part = own[position : position + size]
        chunks += b"%x\r\n%s\r\n" % (len(part), part)
        position += size
    if draw.random() < 0.7:
        spoilt = draw.choice(SIZES) + draw.choice([b"\r\n", b"\n", b""]) + b"abcde\r\n"
        cut = draw.randrange(len(chunks))
        chunks = draw.choice([chunks + spoilt, spoilt + chunks, chunks[:cut] + spoilt + chunks[cut:]])
    end = draw.choice(
        [b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"0\r\n" + b"a: b\r\n" * 9000, b"0", b"0\r\n\n", b""]
    )
    return request(b"POST", scores_path(b"chunks"), chunks + end, b"transfer-encoding: chunked", *_ending(draw))


def _json(draw, number) -> bytes:
    fields = [[b'"userId"', b'"c%d"' % number], [b'"delta"', b"1"]]
    if draw.random() < 0.6:
        fields[1][1] = draw.choice(DELTAS)
    if draw.random() < 0.5:
        fields[0][1] = draw.choice(USERS)
    if draw.random() < 0.3:
        key = draw.choice(KEYS)
        fields.append([b'"eventId"', draw.choice([key, b'"%s"' % key])])
    if draw.random() < 0.2:
        fields.append(draw.choice(fields))  # twice: the last counts
    if draw.random() < 0.1:
        fields.append([draw.choice([b'"x"', b'"userid"', b'"\\u0064elta"', b"delta"]), b"1"])
    body = b"{" + b",".join(b":".join(field) for field in fields) + b"}"
    if draw.random() < 0.1:
        body = draw.choice([b"\xef\xbb\xbf", b" ", b"\x00", b"\n\t"]) + body
    return request(b"POST", scores_path(b"json"), body, *_ending(draw))


def _body(draw, _number) -> bytes:
    return request(draw.choice([b"POST", b"DELETE", b"GET"]), scores_path(b"body"), draw.choice(BODIES), *_ending(draw))


def _large(draw, number) -> bytes:
    body = score(number).ljust(MIB + draw.choice([-1, 0, 1, 4096]))
    if draw.random() < 0.5:
        return request(b"POST", scores_path(b"large"), body, *_ending(draw))
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return request(b"POST", scores_path(b"large"), chunked, b"transfer-encoding: chunked", *_ending(draw))


_PLAIN = [_valid, _start_line, _header, _length, _coding, _chunks, _json, _body]


def _mutated(draw, number) -> bytes:
    data = bytearray(draw.choice(_PLAIN)(draw, number))
    for _ in range(draw.randrange(1, 6)):
        at, size = draw.randrange(len(data) + 1), draw.randrange(1, 20)
        spice = draw.choice([b"\r\n", b"\n", b"\x00", b" ", b":", b"\xff", b"%", b"\r\n\r\n", b"0", b"{", b'"', b"\r"])
        match draw.randrange(5):
            case 0:
                del data[at : at + size]
            case 1:
                data[at:at] = spice
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 4:
                data[at : at + len(spice)] = spice
        if not data:
            break
    return bytes(data[: draw.randrange(len(data) + 1)] if draw.random() < 0.15 else data)


def _pipelined(draw, number) -> bytes:
    parts = []
    for place in range(draw.randrange(2, 30)):
        parts.append(request(b"POST", scores_path(b"piped"), score(number * 100 + place)))
        parts.append(request(b"GET", b"/v1/seasons/piped/leaderboard/top?limit=%d" % draw.randrange(1, 50)))
    parts.append(draw.choice(_PLAIN)(draw, number))
    return b"".join(parts)


def _leaving(draw, number) -> Case:
    whole = draw.choice([_valid, _chunks, _json, _pipelined])(draw, number).replace(b"/seasons/", b"/seasons/left-")
    return Case("", [whole[: draw.randrange(len(whole) + 1)]])


def _split(draw, payload: bytes) -> list[bytes]:
    if draw.random() < 0.7 or len(payload) < 2:
        return [payload]
    cuts = sorted(draw.sample(range(1, len(payload)), min(len(payload) - 1, draw.randrange(1, 12))))
    return [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
