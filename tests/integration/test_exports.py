"""A whole board in one answer: in its order, of one moment, for readers of any speed."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import io
import json
import random
import re
from pathlib import Path

import httpx2
import pytest
from conftest import client_of, make_settings, serving
from raw_http import connection_to
from season_calls import SEASON, post, put
from window_calls import expected_boards

from api import exports
from api.app import create_app
from api.open_answers import OpenAnswer
from shared import ledger, season_settings
from shared.board_files import NdjsonWriter
from shared.scores import MAX_SCORE, Rules, Score
from shared.seasons import begin_next_epoch, lock
from shared.windows import BOARDS

EXPORT = f"{SEASON}/leaderboard/export"
PLAYERS = ["ann", "bob", 'B,"b"', "=1+1", "aa", "Zoë 🎮", " ~ ", "z" * 128, *(f"p{number}" for number in range(15))]


async def exported(http, **query):
    response = await http.get(EXPORT, params=query)
    assert response.status_code == 200, response.text
    return response


def lines_of(response):
    assert response.headers["content-type"] == "application/x-ndjson"
    about, *rows = [json.loads(line) for line in response.text.splitlines()]
    return about, rows


def table_of(response):
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(response.text, newline=""), strict=True))


@pytest.mark.parametrize("tie_break", ["earliest", "member"])
@pytest.mark.parametrize(
    ("aggregation", "order"), [("sum", "desc"), ("sum", "asc"), ("best", "desc"), ("best", "asc"), ("latest", "asc")]
)
async def test_it_is_every_board_in_its_order(http, pool, drain, aggregation, order, tie_break):
    rng = random.Random(f"{aggregation} {order} {tie_break}")
    rules = Rules(aggregation, order, windows=True, tie_break=tie_break)
    now = dt.datetime.now(dt.UTC)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["race", "other"], rules)
        scores = [
            Score(
                *(rng.choice(("race", "race", "other")), user_id, rng.randint(-1, 4)),
                absolute=aggregation != "sum",
                occurred_at=now - dt.timedelta(seconds=rng.choice((0, 0, 9, 3600, 90_000, 300_000, 700_000))),
            )
            for user_id in rng.choices(PLAYERS, k=80)
        ]
        await ledger.append(conn, scores)
        await drain()
        boards = await expected_boards(conn, "race")
        reached = dict(await (await conn.execute(_REACHED)).fetchall())
        for hidden in (None, boards[0][2][0]):
            if hidden is not None:
                await conn.execute("insert into hidden_players values ('race', %s, now())", (hidden,))
                await conn.execute("update seasons set hides = true where season_id = 'race'")
            for window, board in zip(BOARDS, boards, strict=True):
                right = [(user_id, score) for user_id, score in board if user_id != hidden]
                query = {} if window is None else {"window": window}
                response = await exported(http, **query)
                about, rows = lines_of(response)
                assert [(row["userId"], row["score"]) for row in rows] == right
                assert [row["rank"] for row in rows] == list(range(1, len(right) + 1))
                assert about.pop("exportedAt") == response.headers["x-exported-at"]
                assert about == {
                    "seasonId": "race",
                    "epoch": 1,
                    "window": window,
                    "players": len(right),
                    "aggregation": aggregation,
                    "order": order,
                    "windows": True,
                    "tieBreak": tie_break,
                }
                table = table_of(await exported(http, format="csv", **query))
                assert [{**row, "rank": int(row["rank"]), "score": int(row["score"])} for row in table] == rows
                if window is None:
                    assert {row["userId"]: row["reachedAt"] for row in rows} == {
                        user_id: reached[user_id] for user_id, _ in right
                    }


_REACHED = """
select user_id, to_char(reached_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') from standings
where season_id = 'race'
"""


async def test_a_plain_season_does_not_say_when_scores_were_reached(http, drain):
    for user_id, delta in (("ann", MAX_SCORE), ("bob", -MAX_SCORE), ("c,d", 5), ("cid", 5)):
        await post(http, user_id, delta=delta)
    await drain()
    response = await exported(http, format="csv")
    assert response.content == (
        b'rank,userId,score\r\n1,ann,9007199254740991\r\n2,cid,5\r\n3,"c,d",5\r\n4,bob,-9007199254740991\r\n'
    )
    assert response.headers["content-disposition"] == 'attachment; filename="race.csv"'
    assert (response.headers["x-season-epoch"], response.headers["x-total-players"]) == ("1", "4")
    _, rows = lines_of(await exported(http))
    assert rows[1] == {"rank": 2, "userId": "cid", "score": 5}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        ("text/html, text/csv;q=0.9, */*", "text/csv; charset=utf-8; header=present"),
        ("application/x-ndjson, text/csv", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
    ],
)
async def test_the_format_may_be_asked_for_by_a_header(http, accept, content_type):
    await put(http)
    response = await http.get(EXPORT, headers={"Accept": accept})
    assert response.headers["content-type"] == content_type
    assert len(response.text.splitlines()) == 1


async def test_what_there_is_none_of_is_told(http, add):
    await add(("race", "ann", 1))
    for query, status, code in (
        ({"format": "xlsx"}, 400, "invalid_format"),
        ({"window": "1h"}, 400, "invalid_window"),
        ({"window": "24h"}, 409, "windows_off"),
    ):
        response = await http.get(EXPORT, params=query)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/json"
    response = await http.get("/v1/seasons/unknown/leaderboard/export")
    assert (response.status_code, response.json()["code"]) == (404, "season_not_found")
    assert (await http.head(EXPORT)).status_code == 200
    assert (await http.post(EXPORT)).status_code == 405


async def test_without_postgres_it_is_503(settings):
    broken = settings.model_copy(update={"postgres_dsn": "postgresql://nobody@127.0.0.1:1/none"})
    async with serving(create_app(broken)) as base_url, client_of(base_url) as http:
        response = await http.get(EXPORT)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1"), response.text


MANY = 100_000

_FILL = """
insert into standings (season_id, epoch, user_id, score, token)
select 'race', 1, 'player-' || n, mod(n, 1000), 1 from generate_series(1, %s) as n
"""


@pytest.fixture
async def large(patient_pool):
    """A board of many players; a connection."""
    async with patient_pool.connection() as conn:
        await ledger.create_seasons(conn, ["race"])
        await conn.execute(_FILL, (MANY,))
        yield conn


@pytest.fixture
async def reader(http):
    """Opens exports of which nobody reads more than a test says."""
    opened = []

    async def open_now():
        opened.append(await connection_to(http.base_url))
        opened[-1]._reader._transport.pause_reading()
        opened[-1].send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % EXPORT.encode())
        return opened[-1]

    yield open_now
    for connection in opened:
        connection.leave()


SORTED = "select from pg_stat_activity where application_name = 'leaderboard-ops' and query like 'FETCH%'"


async def everything(connection):
    connection._reader._limit = 2**25
    connection._reader._transport.resume_reading()
    status, headers = await connection.head()
    assert (status, headers["transfer-encoding"]) == (200, "chunked")
    return await connection._reader.readuntil(b"\r\n0\r\n\r\n")


async def test_it_is_of_one_moment_and_bounded_in_memory(large, reader, eventually, http):
    """Also where it is read long after, while others write, and reset the season."""
    connection = await reader()
    await eventually(SORTED)
    before = resident()
    async with large.transaction():
        await lock(large, ["race"])
        await large.execute("update standings set score = score + 1 where user_id like '%7'")
        await begin_next_epoch(large, "race")
    await eventually("select from seasons where epoch = 2")
    held = await (await large.execute(_HELD)).fetchone()
    assert held == (0,)  # nothing keeps vacuum back
    body = await everything(connection)
    assert resident() - before < 40 * 2**20
    rows = [json.loads(line) for line in re.findall(rb'\{"rank".*\}', body)]
    assert len(rows) == MANY
    right = sorted(((n % 1000, f"player-{n}") for n in range(1, MANY + 1)), reverse=True)
    assert [(row["score"], row["userId"]) for row in rows] == right
    about, rows = lines_of(await exported(http))
    assert (about["epoch"], about["players"], rows) == (2, 0, [])


async def test_what_it_says_of_itself_is_of_the_same_moment(http, add, drain, monkeypatch):
    find = season_settings.find

    async def found(conn, season_id):
        season = await find(conn, season_id)
        await add(("race", "bob", 7))
        await drain()
        return season

    await add(("race", "ann", 5))
    await drain()
    monkeypatch.setattr(season_settings, "find", found)
    about, rows = lines_of(await exported(http))
    assert (about["players"], [row["userId"] for row in rows]) == (1, ["ann"])


_HELD = "select count(*) from pg_stat_activity where application_name = 'leaderboard-ops' and backend_xmin is not null"


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.usefixtures("large")
async def test_two_at_once_and_who_leaves_makes_room(reader, http, eventually):
    first, second = await reader(), await reader()
    await eventually(f"select from ({SORTED}) as sorted having count(*) = 2")
    response = await http.get(EXPORT)
    assert (response.status_code, response.json()["code"]) == (503, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert (await http.get("/readyz")).status_code == 200
    first.leave()
    await eventually(f"select from ({SORTED}) as sorted having count(*) = 1")
    while (response := await http.get(EXPORT)).status_code == 503:
        pass
    assert len(response.text.splitlines()) == 1 + MANY
    second.leave()
    await eventually(SORTED, gone=True)


@pytest.mark.usefixtures("large")
async def test_who_does_not_read_is_cut_and_little_is_fetched_for_it(reader, eventually, monkeypatch):
    fetched, first = [], NdjsonWriter.lines
    monkeypatch.setattr(NdjsonWriter, "lines", lambda self, rows: fetched.append(len(rows)) or first(self, rows))
    monkeypatch.setattr("api.http_protocol.WRITE_SECONDS", 0.1)
    connection = await reader()
    await eventually(SORTED)
    await eventually(SORTED, gone=True)
    assert sum(fetched) < MANY / 5
    connection._reader._transport.resume_reading()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await everything(connection)


@pytest.mark.usefixtures("large")
async def test_one_that_takes_too_long_is_cut(reader, eventually, monkeypatch):
    cut, first = asyncio.Event(), OpenAnswer.cut

    async def noted(self):
        await first(self)
        cut.set()

    monkeypatch.setattr(OpenAnswer, "cut", noted)
    monkeypatch.setattr(exports, "EXPORT_SECONDS", 0.3)
    connection = await reader()
    await cut.wait()
    await eventually(SORTED, gone=True)
    connection._reader._transport.resume_reading()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await everything(connection)


async def test_who_leaves_while_it_is_sorted_ends_that(large, settings, eventually, monkeypatch):
    monkeypatch.setattr("api.ops_ledger._LOCK_SECONDS", 600)
    async with serving(create_app(settings)) as base_url, large.transaction():
        await large.execute("lock table hidden_players in access exclusive mode")
        connection = await connection_to(base_url)
        connection.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % EXPORT.encode())
        waiting = "select from pg_stat_activity where application_name = 'leaderboard-ops' and wait_event_type = 'Lock'"
        await eventually(waiting)
        connection.leave()
        await eventually(waiting, gone=True)


async def test_an_error_in_the_middle_can_not_be_taken_for_the_end(large, http, eventually):
    async with http.stream("GET", EXPORT) as response:
        assert response.status_code == 200
        await eventually(SORTED)
        await large.execute(_TERMINATE)
        with pytest.raises(httpx2.RemoteProtocolError):
            await response.aread()
    about, rows = lines_of(await exported(http))
    assert about["players"] == len(rows) == MANY


_TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'leaderboard-ops'"


@pytest.mark.usefixtures("large")
async def test_a_process_that_stops_cuts_its_exports(settings, eventually):
    app = create_app(settings)
    async with serving(app) as base_url:
        connection = await connection_to(base_url)
        connection._reader._transport.pause_reading()
        connection.send(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % EXPORT.encode())
        await eventually(SORTED)
    connection._reader._transport.resume_reading()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await everything(connection)
    connection.leave()


async def test_it_needs_an_admin_key(dsn, servers, pool):
    from shared import api_keys

    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["race"])
        keys = {scope: await api_keys.create(conn, scope, [scope], ["race"]) for scope in ("read", "admin")}
    settings = make_settings(dsn, servers.redis_url)
    async with serving(create_app(settings)) as base_url, client_of(base_url) as http:
        for scope, status in (("read", 403), ("admin", 200)):
            response = await http.get(EXPORT, headers={"Authorization": f"Bearer {keys[scope]}"})
            assert response.status_code == status
        assert (await http.get(EXPORT)).status_code == 401
