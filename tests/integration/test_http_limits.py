"""What the HTTP protocol refuses before any handler sees it, over sockets: sizes, times, order of answers."""

from __future__ import annotations

import gc

import pytest
from raw_http import connection_with

from api.http_protocol import BoundedHttpProtocol
from api.refusals import MAX_HEAD_BYTES, MAX_URL_BYTES

SCORES = "/v1/seasons/s/scores"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
BODY = b'{"userId":"ann","delta":1}'
POST = b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (SCORES.encode(), len(BODY), BODY)


async def assert_refused(connection, status, code):
    """The service's own error, then the end of the connection."""
    found, headers, body = await connection.answer()
    assert (found, body["code"]) == (status, code)
    assert headers["content-type"] == "application/json"
    assert headers["connection"] == "close"
    assert headers["date"]
    assert body["error"]
    assert body["requestId"] == headers["x-request-id"]
    assert await connection.closed()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
        b"hello\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\na: \x00\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\na : b\r\n\r\n",
        b"POST /v1/seasons/s/scores HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/seasons/s/scores HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v1/seasons/s/scores HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /v1/seasons/s/scores HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/seasons/s/scores HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_told_so(connect, sent):
    connection = await connect()
    connection.send(sent)
    await assert_refused(connection, 400, "invalid_http")


def padded(size, target=b"/healthz"):
    """A request whose request line and headers, as the limit counts them, take `size` bytes."""
    start = b"GET %s HTTP/1.1\r\nhost: x\r\na: " % target
    counted = len(target) + len(b"host: x\r\n") + len(b"a: \r\n")
    return start + b"a" * (size - counted) + b"\r\n\r\n"


async def test_a_head_up_to_its_limit_is_taken_a_larger_one_is_not(connect):
    connection = await connect()
    connection.send(padded(MAX_HEAD_BYTES))
    assert (await connection.answer())[0] == 200
    connection.send(POST + padded(MAX_HEAD_BYTES))
    assert [(await connection.answer())[0] for _ in range(2)] == [202, 200]
    connection.send(padded(MAX_HEAD_BYTES + 1))
    await assert_refused(connection, 431, "head_too_large")


@pytest.mark.parametrize("endless", [b"a: " + b"x" * 200_000, b"a: b\r\n" * 30_000, b"x" * 200_000])
async def test_a_head_without_end_is_refused_before_its_end(connect, endless):
    connection = await connect()
    connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + endless)
    await assert_refused(connection, 431, "head_too_large")


@pytest.mark.parametrize("end", [b"", b" HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_a_target_up_to_its_limit_is_taken_a_longer_one_is_not(connect, end):
    connection = await connect()
    connection.send(b"GET /healthz?%s HTTP/1.1\r\nhost: x\r\n\r\n" % (b"x" * (MAX_URL_BYTES - len("/healthz?"))))
    assert (await connection.answer())[0] == 200
    connection.send(b"GET /healthz?" + b"x" * (MAX_URL_BYTES + 4096) + end)
    await assert_refused(connection, 414, "url_too_long")


@pytest.fixture
async def hasty(http, monkeypatch):
    """Heads have a twentieth of a second: sends the first bytes of a connection so that no stall makes them late."""
    monkeypatch.setattr("api.http_protocol.HEAD_SECONDS", 0.05)
    opened = []

    async def connect_with(sent):
        opened.append(await connection_with(http.base_url, sent))
        return opened[-1]

    yield connect_with
    for connection in opened:
        connection.leave()


async def test_a_head_that_takes_too_long_is_told_so(hasty):
    for sent in (b"GET /healthz HTTP/1.1\r\n", b"G"):
        connection = await hasty(sent)
        await assert_refused(connection, 408, "head_timeout")


async def test_the_second_head_has_a_time_of_its_own_too(hasty):
    connection = await hasty(HEALTH + HEALTH[:-2])
    assert (await connection.answer())[0] == 200
    await assert_refused(connection, 408, "head_timeout")


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"\r\n\r\n"])
async def test_a_connection_that_asks_nothing_is_closed_without_a_word(hasty, sent):
    connection = await hasty(sent)
    assert await connection.closed()


async def test_a_connection_is_closed_though_it_drips_the_body_of_an_answered_request(hasty):
    connection = await hasty(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n")
    assert (await connection.answer())[0] == 404
    connection.send(b"x")
    assert await connection.closed()


async def test_a_body_that_nobody_waits_for_has_an_end(connect):
    connection = await connect()
    connection.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
    assert (await connection.answer())[0] == 404
    connection.send(b"x" * 3_000_000)
    assert await connection.closed()


@pytest.mark.parametrize("endless", [b"0\r\na: " + b"x" * 100_000, b"1;" + b"x" * 100_000])
async def test_trailers_and_extensions_of_chunks_without_end_are_refused(connect, endless):
    connection = await connect()
    connection.send(b"POST %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" % SCORES.encode())
    connection.send(endless)
    await assert_refused(connection, 431, "head_too_large")


async def test_answers_come_in_order_and_the_refusal_last(connect):
    connection = await connect()
    connection.send(POST + HEALTH + b"rubbish\r\n\r\n" + HEALTH)
    assert [(await connection.answer())[0] for _ in range(2)] == [202, 200]
    await assert_refused(connection, 400, "invalid_http")


async def test_a_broken_body_behind_others_does_not_take_their_answers(connect, pool):
    connection = await connect()
    broken = b"POST %s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n" % SCORES.encode()
    connection.send(POST + broken + POST)
    assert (await connection.answer())[0] == 202
    await assert_refused(connection, 400, "invalid_http")
    async with pool.connection() as conn:
        assert await (await conn.execute("select count(*) from score_events")).fetchone() == (1,)


async def test_thousands_of_pipelined_requests_are_answered_in_order(connect):
    connection = await connect()
    asked = [b"GET /v1/seasons/s%d/leaderboard/top HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(3000)]
    connection.send(b"".join(asked))
    for number in range(3000):
        status, _, body = await connection.answer()
        assert (status, body["seasonId"]) == (200, f"s{number}")


async def test_who_sends_more_with_every_answer_does_not_fill_the_queue(connect):
    connection = await connect()
    piece = HEALTH * 100
    longest = 0
    connection.send(piece)
    for _ in range(150):
        await connection.answer()
        connection.send(piece)
        protocols = [one for one in gc.get_objects() if isinstance(one, BoundedHttpProtocol)]
        longest = max(longest, *(len(one.pipeline) for one in protocols))
    assert longest < 250


async def test_an_offered_upgrade_is_declined_and_what_follows_is_answered(connect):
    connection = await connect()
    offer = b"host: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    connection.send(b"GET /healthz HTTP/1.1\r\n%s\r\n" % offer + HEALTH + POST.replace(b"host: x\r\n", offer) + HEALTH)
    assert [(await connection.answer())[0] for _ in range(4)] == [200, 200, 202, 200]
    framed = b"%s %s HTTP/1.1\r\n%s%s\r\n\r\n"
    empty = framed % (b"GET", b"/healthz", offer, b"content-length: 0")
    chunked = framed % (b"POST", SCORES.encode(), offer, b"transfer-encoding: chunked")
    connection.send(empty + chunked + b"%x\r\n%s\r\n" % (len(BODY), BODY))
    assert (await connection.answer())[0] == 200
    connection.send(b"0\r\na: b\r\n\r\n" + HEALTH)
    assert [(await connection.answer())[0] for _ in range(2)] == [202, 200]


async def test_a_client_that_does_not_take_its_answers_is_cut(http, connect, monkeypatch):
    monkeypatch.setattr("api.http_protocol.WRITE_SECONDS", 0.05)
    connection = await connect()
    asked = b"GET /v1/seasons/%s/leaderboard/top HTTP/1.1\r\nhost: x\r\n\r\n" % (b"s" * 64)
    with pytest.raises(ConnectionError):
        await connection.flood(asked * 1000)
    assert (await http.get("/healthz")).status_code == 200
