"""What is answered directly, without a task; that it is answered as everything else; who leaves or stops meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from conftest import serving
from raw_http import connection_to

from api.app import create_app
from api.board_lookups import BoardLookups
from api.boards import Boards
from api.direct_protocol import DirectHttpProtocol
from api.front import Front
from api.ledger_writes import LedgerWrites
from shared.errors import RedisUnavailableError

NEVER = 3600.0
BODY = b'{"userId":"ann","delta":1}'
SEASON = b"/v1/seasons/s"
SCORES = SEASON + b"/scores"
RANK = SEASON + b"/leaderboard/rank?userId=ann"
TOP = SEASON + b"/leaderboard/top"
GAME = b"/api/leaderboard"
GAME_SCORE = b'{"game_id":7,"user_id":1,"score":5}'
STORED = "select count(*), coalesce(sum(delta), 0)::int from score_events"


def request(method, target, *headers, body=b"", version=b"1.1"):
    lines = b"".join(b"%b\r\n" % header for header in (b"host: x", *headers))
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, target, version, lines, body)


def post(*headers, target=SCORES, body=BODY, version=b"1.1"):
    return request(b"POST", target, b"content-length: %d" % len(body), *headers, body=body, version=version)


@pytest.fixture
def direct(monkeypatch):
    """The paths that were answered directly."""
    begun, begin = [], Front.begin

    def noted(self, endpoint, scope, body):
        begun.append(scope["path"])
        return begin(self, endpoint, scope, body)

    monkeypatch.setattr(Front, "begin", noted)
    return begun


@pytest.fixture
def commit(monkeypatch):
    """Holds all scores up until it is set; to be asked for before the API is."""
    store, commit = LedgerWrites.store, asyncio.Event()
    commit.reached = asyncio.Event()

    async def held(self, scores):
        commit.reached.set()
        await commit.wait()
        return await store(self, scores)

    monkeypatch.setattr(LedgerWrites, "store", held)
    return commit


async def the_protocol():
    """Of the only connection there is, as soon as the server has taken it."""
    while not (found := [p for p in gc.get_objects() if isinstance(p, DirectHttpProtocol) and p in p.connections]):
        await asyncio.sleep(0)
    (protocol,) = found
    return protocol


async def stored(pool):
    async with pool.connection() as conn:
        return await (await conn.execute(STORED)).fetchone()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(), 202),
        (post(b"idempotency-key: a", b"content-type: application/json"), 202),
        (post(b"connection: keep-alive"), 202),
        (post(body=b"{}"), 400),
        (post(body=b""), 400),
        (post(body=BODY + b" " * 9000), 202),
        (request(b"GET", TOP), 200),
        (request(b"GET", TOP + b"?limit=3"), 200),
        (request(b"GET", RANK), 200),
        (request(b"GET", RANK.replace(b"ann", b"%61nn")), 200),
        (request(b"GET", SEASON + b"/leaderboard/around?userId=ann"), 200),
        (request(b"GET", SEASON + b"/leaderboard/around"), 400),
        (post(target=GAME + b"/score", body=GAME_SCORE), 200),
        (post(target=GAME + b"/score", body=b"{}"), 400),
        (request(b"GET", GAME + b"/top/7"), 200),
        (request(b"GET", GAME + b"/top/7?window=24h&limit=3"), 200),
        (request(b"GET", GAME + b"/top/0"), 400),
        (request(b"GET", GAME + b"/rank/7/1"), 404),
        (request(b"GET", GAME + b"/rank/7/1?window=1h"), 400),
    ],
)
async def test_what_every_client_sends_is_answered_directly(connect, add, drain, direct, sent, status):
    await add(("s", "ann", 1))
    await drain()
    connection = await connect()
    connection.send(sent)
    assert (await connection.answer())[0] == status
    assert len(direct) == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(body=BODY + b" " * 10_000), 202),
        (
            request(b"POST", SCORES, b"transfer-encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)),
            202,
        ),
        (request(b"POST", SCORES), 400),
        (post(target=b"/v1/seasons/%73/scores"), 202),
        (post(target=b"/v1/seasons/%20/scores"), 400),
        (post(target=b"/v1/seasons/" + b"s" * 65 + b"/scores"), 400),
        (post(target=b"http://x/v1/seasons/s/scores"), 202),
        (post(target=SCORES + b"/batch", body=b"[%b]" % BODY), 202),
        (post(target=TOP), 405),
        (request(b"GET", SCORES), 405),
        (request(b"GET", TOP, b"content-length: 2", body=b"{}"), 200),
        (request(b"GET", TOP, b"transfer-encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"), 200),
        (post(b"connection: upgrade, http2-settings", b"upgrade: h2c"), 202),
        (request(b"GET", b"/healthz"), 200),
        (request(b"GET", b"/nowhere"), 404),
        (post(target=GAME + b"/score/7", body=GAME_SCORE), 404),
        (post(target=GAME + b"/top/7", body=GAME_SCORE), 405),
        (request(b"GET", GAME + b"/top"), 404),
        (request(b"GET", GAME + b"/top/x"), 400),
        (request(b"GET", GAME + b"/top/7/1"), 404),
        (request(b"GET", GAME + b"/rank/7"), 404),
        (request(b"GET", GAME + b"/rank/%37/1"), 404),
        (request(b"GET", GAME + b"/rank/7/99999999999999999999"), 400),
    ],
)
async def test_everything_else_goes_the_longer_way(connect, direct, sent, status):
    connection = await connect()
    connection.send(sent)
    assert (await connection.answer())[0] == status
    connection.send(request(b"GET", b"/healthz"))
    assert (await connection.answer())[0] == 200  # the connection is where it should be
    assert direct == []


@pytest.mark.parametrize("header", [b"connection", b"proxy-connection"])  # the parser takes the second for the first
async def test_a_body_behind_an_offered_upgrade_belongs_to_its_request(connect, pool, header):
    connection = await connect()
    offered = post(b"%b: upgrade" % header, b"upgrade: h2c")
    connection.send(offered[: -len(BODY)])
    protocol = await the_protocol()
    while protocol.cycle is None:
        await asyncio.sleep(0)
    connection.send(BODY + request(b"GET", b"/healthz"))
    assert [(await connection.answer())[0] for _ in range(2)] == [202, 200]
    assert await stored(pool) == (1, 1)


async def test_a_look_up_that_is_cancelled_is_answered_all_the_same(monkeypatch, settings):
    async def cancelled(_self, _places):
        raise asyncio.CancelledError

    monkeypatch.setattr(BoardLookups, "_look_up_places", cancelled)
    async with serving(create_app(settings)) as base_url:
        connection = await connection_to(base_url)
        connection.send(request(b"GET", RANK))
        status, headers, body = await connection.answer()
        assert (status, headers["retry-after"], body["code"]) == (503, "1", "unavailable")
        connection.leave()


async def test_a_look_up_that_fails_leaves_nothing_for_the_collector(monkeypatch, settings):
    async def unreadable(_self, _places):
        raise RedisUnavailableError("not now")

    monkeypatch.setattr(BoardLookups, "_look_up_places", unreadable)
    async with serving(create_app(settings)) as base_url:
        connection = await connection_to(base_url)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                connection.send(request(b"GET", RANK))
                assert (await connection.answer())[0] == 503
            # The last one's future waits for the next to look after its deadline.
            assert sum(isinstance(found, RedisUnavailableError) for found in gc.get_objects()) <= 1
        finally:
            gc.enable()
        connection.leave()


class NoFuture:
    def __await__(self):
        yield self


@pytest.mark.parametrize(("awaited", "status"), [(lambda: asyncio.sleep(0), 200), (NoFuture, 500)])
@pytest.mark.parametrize("steps", [0, 1])
async def test_a_handler_that_awaits_something_else_is_answered_too(
    connect, add, drain, monkeypatch, awaited, status, steps
):
    await add(("s", "ann", 1))
    await drain()
    rank = Boards.rank

    async def rank_then(self, season_id, user_id, **options):
        for _ in range(steps):
            await rank(self, season_id, user_id, **options)
        await awaited()
        return await rank(self, season_id, user_id, **options)

    monkeypatch.setattr(Boards, "rank", rank_then)
    connection = await connect()
    connection.send(request(b"GET", RANK) * 2)
    assert [(await connection.answer())[0] for _ in range(2)] == [status, status]


@pytest.mark.parametrize(
    "sent", [post(b"connection: close"), post(version=b"1.0"), request(b"GET", TOP, version=b"1.0")]
)
async def test_a_connection_that_ends_with_its_request_goes_the_longer_way(connect, direct, sent):
    connection = await connect()
    connection.send(sent)
    status, headers, _ = await connection.answer()
    assert (status // 100, headers["connection"]) == (2, "close")
    assert await connection.closed()
    assert direct == []


async def test_a_client_of_http_1_0_may_keep_its_connection_no_longer_than_uvicorn_lets_it(connect, direct):
    connection = await connect()
    connection.send(post(b"connection: keep-alive", version=b"1.0"))
    assert (await connection.answer())[1]["connection"] == "close"
    assert await connection.closed()
    assert direct == []


async def test_who_asks_whether_to_send_its_body_is_told_so(connect, direct):
    connection = await connect()
    connection.send(
        post(b"expect: 100-continue", body=b"")[:-2].replace(b"length: 0", b"length: %d" % len(BODY)) + b"\r\n"
    )
    assert await connection.head() == (100, {})
    connection.send(BODY)
    assert (await connection.answer())[0] == 202
    assert direct == []


async def test_a_kept_answer_is_asked_for_by_its_tag_and_has_the_clients_request_id(connect, add, drain, direct):
    await add(("s", "ann", 1))
    await drain()
    connection = await connect()
    for _ in range(2):
        connection.send(request(b"GET", TOP, b"x-request-id: mine"))
        status, headers, _ = await connection.answer()
        assert (status, headers["x-request-id"]) == (200, "mine")
    connection.send(request(b"GET", TOP, b"if-none-match: %b" % headers["etag"].encode()))
    status, headers = await connection.head()
    assert status == 304
    assert "content-length" not in headers
    connection.send(request(b"GET", RANK))
    assert (await connection.answer())[2]["rank"] == 1
    assert len(direct) == 4


async def test_a_request_may_come_byte_by_byte(connect, pool, direct):
    connection = await connect()
    for byte in post():
        connection.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await connection.answer())[0] == 202
    assert await stored(pool) == (1, 1)
    assert len(direct) == 1


async def test_what_comes_at_once_is_answered_in_order_whichever_way_it_goes(connect, pool, add, drain):
    await add(("s", "ann", 7))
    await drain()
    health, nowhere = request(b"GET", b"/healthz"), request(b"GET", b"/nowhere")
    asked = [post(), request(b"GET", RANK), health, request(b"GET", TOP), nowhere, post(body=b"[]"), health]
    statuses = [202, 200, 200, 200, 404, 400, 200]
    for times in (1, 50, 300):  # a few of them, more than are parsed at once, and more than a read brings
        connection = await connect()
        connection.send(b"".join(asked * times))
        assert [(await connection.answer())[0] for _ in range(len(asked) * times)] == statuses * times
    assert (await stored(pool))[0] == 1 + 1 + 50 + 300


async def test_thousands_of_kept_answers_asked_for_at_once(connect, add, drain):
    await add(("s", "ann", 7))
    await drain()
    connection = await connect()
    connection.send(request(b"GET", TOP))
    first = await connection.answer()
    connection.send(request(b"GET", TOP) * 5000)
    for _ in range(5000):
        status, _, body = await connection.answer()
        assert (status, body) == (200, first[2])


async def test_answers_that_nobody_takes_do_not_pile_up(connect, add, drain):
    await add(*(("s", f"player-{number}", number + 1) for number in range(100)))
    await drain()
    connection = await connect()
    protocol = await the_protocol()
    while not (protocol.flow.write_paused and protocol.flow.read_paused):
        before = protocol.cycle
        connection.send(request(b"GET", TOP + b"?limit=100"))
        # Each comes alone, and as long as anything is taken behind the answer to the one before.
        while protocol.cycle is before or not (protocol.cycle.response_complete or protocol.flow.write_paused):
            await asyncio.sleep(0)
        assert protocol.transport.get_write_buffer_size() < 1_000_000


async def test_a_body_that_does_not_come_is_told_so(connect, pool, monkeypatch):
    monkeypatch.setattr("api.http_protocol.BODY_SECONDS", 0.05)
    connection = await connect()
    connection.send(post()[:-1])
    status, headers, body = await connection.answer()
    assert (status, headers["connection"], body["code"]) == (408, "close", "body_timeout")
    assert await connection.closed()
    assert await stored(pool) == (0, 0)


async def test_rubbish_behind_a_request_does_not_take_its_answer(connect, pool):
    connection = await connect()
    connection.send(post() + b"rubbish\r\n\r\n")
    assert (await connection.answer())[0] == 202
    assert (await connection.answer())[2]["code"] == "invalid_http"
    assert await connection.closed()
    assert await stored(pool) == (1, 1)


async def test_who_leaves_before_its_body_is_complete_has_sent_nothing(connect, http, pool, direct):
    connection = await connect()
    connection.send(post()[:-1])
    connection.leave()
    assert (await http.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 5})).status_code == 202
    assert await stored(pool) == (1, 5)
    assert len(direct) == 1


async def test_who_leaves_before_its_answer_disturbs_nobody(commit, connect, http, pool, caplog):
    connection = await connect()
    connection.send(post())
    await commit.reached.wait()
    connection.leave()
    other = asyncio.create_task(http.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 5}))
    commit.set()
    assert (await other).status_code == 202
    assert await stored(pool) == (2, 6)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_server_that_stops_answers_what_it_took_and_says_that_it_closes(settings, pool, commit, monkeypatch):
    told, shutdown = asyncio.Event(), DirectHttpProtocol.shutdown

    def noted(self):
        self.timeout_keep_alive = NEVER
        shutdown(self)
        told.set()

    monkeypatch.setattr(DirectHttpProtocol, "shutdown", noted)
    async with contextlib.AsyncExitStack() as server:
        connection = await connection_to(await server.enter_async_context(serving(create_app(settings))))
        connection.send(post())
        await commit.reached.wait()
        stopping = asyncio.create_task(server.aclose())
        await told.wait()
        commit.set()
        status, headers, _ = await connection.answer()
        assert (status, headers["connection"]) == (202, "close")
        assert await connection.closed()
        connection.leave()
        await stopping
    assert await stored(pool) == (1, 1)
