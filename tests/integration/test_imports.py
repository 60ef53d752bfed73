"""Files of scores into the ledger: each line once, whatever happens; and back again as they were."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import io
import itertools
import json
import random

import pytest
from season_calls import SEASON, post, put, top

from cli import imports
from cli.fitting_seasons import Choice
from cli.imports import BadLinesError, Manner, Source
from cli.score_files import FileError
from shared import imports as imported_files
from shared import ledger
from shared.board_export import exported
from shared.board_files import writer_of
from shared.errors import ConflictError, SeasonNotFoundError
from shared.imports import Entry, Import
from shared.scores import MAX_SCORE, Rules, Score

RULES = [
    Rules(aggregation, order, windows, tie_break)
    for (aggregation, order), windows, tie_break in itertools.product(
        [("sum", "desc"), ("sum", "asc"), ("best", "desc"), ("best", "asc"), ("latest", "desc")],
        [False, True],
        ["member", "earliest"],
    )
]
SUMS = Choice("sum")
PLAYERS = ["ann", "bob", 'B,"b"', "=1+1", " pad ", "Zoë 🎮", "~", "z" * 128, *(f"p{number}" for number in range(30))]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So that few lines are several transactions."""
    monkeypatch.setattr("cli.score_files.CHUNK_LINES", 7)


@pytest.fixture
def load(settings):
    """Import bytes; returns what was done."""

    async def load_now(data, season_id="race", kind="ndjson", choice=SUMS, **manner):
        source = Source(io.BytesIO(data), "the file", kind)
        return await imports.load(settings, source, season_id, choice, Manner(**manner))

    return load_now


@pytest.fixture
def file_of(pool):
    """A season's board as a file."""

    async def bytes_of(season_id, kind="ndjson"):
        async with pool.connection() as conn, exported(conn, season_id) as (about, chunks):
            writer = writer_of(kind, about)
            return writer.head() + b"".join([writer.lines(rows) async for rows in chunks])

    return bytes_of


@pytest.fixture
def entries(pool):
    """What the ledger has of a season: (player, points or score), in order."""

    async def ask(season_id="race"):
        async with pool.connection() as conn:
            query = "select user_id, delta from score_events where season_id = %s order by id"
            return await (await conn.execute(query, (season_id,))).fetchall()

    return ask


def lines(*objects):
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


SIXTY = [{"userId": f"p{number}", "score": number} for number in range(60)]
AS_ENTRIES = [(one["userId"], one["score"]) for one in SIXTY]


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: " ".join(map(str, rules)))
async def test_what_is_exported_and_imported_is_the_same_board(pool, drain, load, file_of, rules):
    rng = random.Random(str(rules))
    now = dt.datetime.now(dt.UTC)
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["race"], rules)
        moments = [None, *(now - dt.timedelta(seconds=seconds) for seconds in (0, 9, 9.000001, 3600, 700_000))]
        scores = [
            Score("race", user_id, rng.randint(-2, 3), absolute=rules.aggregation != "sum", occurred_at=moment)
            for user_id, moment in zip(rng.choices(PLAYERS, k=150), rng.choices(moments, k=150), strict=True)
        ]
        await ledger.append(conn, scores)
    await drain()
    for kind in ("ndjson", "csv"):
        file = await file_of("race", kind)
        copy = f"copy-{kind}"
        done = await load(file, copy, kind, Choice() if kind == "ndjson" else Choice(*rules.chosen))
        assert done.created
        await drain()
        again = await file_of(copy, kind)
        if kind == "ndjson":
            (about, rows), (about_again, rows_again) = (text.split(b"\n", 1) for text in (file, again))
            said, said_again = json.loads(about), json.loads(about_again)
            assert {**said_again, "seasonId": "race", "exportedAt": said["exportedAt"]} == said
            assert rows_again == rows
        else:
            assert again == file
        assert done.scores == len(file.splitlines()) - 1 > 20


async def test_a_file_counts_once_and_anew_where_that_is_asked_for(load, entries, http, drain):
    for added in (60, 0):
        assert (await load(lines(*SIXTY))).scores == added
        assert await entries() == AS_ENTRIES
    assert (await load(gzip.compress(lines(*SIXTY)))).scores == 0
    assert (await load(lines(*SIXTY), "other")).scores == 60
    assert (await load(lines(*SIXTY), again=True)).scores == 60
    assert await entries() == AS_ENTRIES * 2
    await drain()
    assert (await top(http))[0] == ("p59", 118)
    assert (await http.get(f"{SEASON}/leaderboard/rank?userId=p0")).json()["score"] == 0
    assert (await http.delete(SEASON)).status_code == 200
    assert (await load(lines(*SIXTY))).scores == 60
    await drain()
    assert (await top(http))[0] == ("p59", 59)


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
async def test_an_import_that_was_interrupted_goes_on_behind_its_last_commit(load, entries, monkeypatch, kind):
    """Before each commit, and right after it."""
    file = lines(*SIXTY) if kind == "ndjson" else table(SIXTY)
    add = imported_files.add

    for late, calls in itertools.product((False, True), range(1, 3)):
        left = list(range(calls - 1))

        async def interrupted(*given, late=late, left=left):
            if left:
                left.pop()
                return await add(*given)
            if late:
                await add(*given)
            raise InterruptedError

        monkeypatch.setattr(imported_files, "add", interrupted)
        before = len(await entries())
        with pytest.raises(InterruptedError):
            await load(file, kind=kind)
        assert len(await entries()) - before in range((calls - 1) * 6, calls * 7 + 1)
    monkeypatch.setattr(imported_files, "add", add)
    done = await load(file, kind=kind)
    assert done.before.scores == 60 - done.scores == done.before.lines - (kind == "csv")
    assert 0 < done.scores < 60
    assert await entries() == AS_ENTRIES


def table(objects):
    return b"score,userId\r\n" + b"".join(f"{one['score']},{one['userId']}\r\n".encode() for one in objects)


async def test_several_at_once_count_it_once(load, entries):
    many = [{"userId": f"p{number}", "score": 1} for number in range(300)]
    done = await asyncio.gather(*(load(lines(*many)) for _ in range(4)))
    assert sum(one.scores for one in done) == 300
    assert sorted(await entries()) == sorted((one["userId"], 1) for one in many)


async def test_lines_that_others_have_added_are_passed_over_and_none_is_left_out(pool, entries):
    of = Import("race", 1, bytes(32), Rules())
    numbered = [Entry(number, f"p{number}", number, None) for number in range(1, 21)]
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["race"])
        await imported_files.begin(conn, of, "f", again=False)
        assert await imported_files.add(conn, of, numbered[:10], 0, 10) == 10
        assert await imported_files.add(conn, of, numbered[4:15], 4, 15) == 5
        assert await imported_files.add(conn, of, numbered[:15], 0, 15) == 0
        with pytest.raises(ConflictError, match="once more"):
            await imported_files.add(conn, of, numbered[17:], 17, 20)
    assert await entries() == [(f"p{number}", number) for number in range(1, 16)]


WRONG = [
    ("ndjson", b'{"userId":"ann"}', "missing required field `score`"),
    ("ndjson", b'{"userId":"ann","score":1.5}', "Expected `int`"),
    ("ndjson", b'{"userId":"ann","score":"1"}', "Expected `int`"),
    ("ndjson", b'{"userId":"","score":1}', "userId is required"),
    ("ndjson", b'{"userId":"a\\u0000","score":1}', "control characters"),
    ("ndjson", b'{"userId":"ann","score":9007199254740992}', "score must be within"),
    ("ndjson", b'{"userId":"ann","score":1,"level":3}', "unknown field `level`"),
    ("ndjson", b'{"userId":"ann","score":1,"reachedAt":"2026-11-27T03:18:28"}', "reachedAt"),
    ("ndjson", b'{"userId":"ann","score":1,"reachedAt":"1969-11-27T03:18:28Z"}', "years 1970 to 9998"),
    ("ndjson", b'{"userId":"\xff","score":1}', "a line is like"),
    ("ndjson", b"ann,1", "malformed"),
    ("csv", b"1.5,ann", "score must be a whole number"),
    ("csv", b"1", "there are 1 fields; line 1 names 2"),
    ("csv", b"1,ann,x", "there are 3 fields"),
    ("csv", b"99999999999999999,ann", "score must be a whole number"),
    ("csv", b"1," + b"z" * 129, "at most 128 characters"),
    ("csv", b"1,\xff", "control characters"),
    ("csv", b'1,"a"b', "this is no CSV"),
]


@pytest.mark.parametrize(("kind", "line", "told"), WRONG)
async def test_a_wrong_line_is_told_by_its_number_and_nothing_counts(load, entries, kind, line, told):
    whole = (lines(*SIXTY) if kind == "ndjson" else table(SIXTY)).splitlines(keepends=True)
    file = b"".join([*whole[:31], line + b"\n", *whole[31:]])
    with pytest.raises(BadLinesError) as refused:
        await load(file, kind=kind)
    assert f"line 32: {''}" in str(refused.value)
    assert told in str(refused.value)
    assert "1 line wrong, nothing was imported" in str(refused.value)
    assert await entries() == []
    done = await load(file, kind=kind, skip_bad=True)
    assert (done.scores, done.survey.wrong) == (60, 1)
    assert await entries() == AS_ENTRIES


async def test_of_many_wrong_lines_the_first_are_told(load):
    with pytest.raises(BadLinesError, match=r"100 lines wrong.*(?s:.*)line 20: (?s:.*)and 80 more") as refused:
        await load(lines(*[{"userId": "ann"}] * 100))
    assert "line 21" not in str(refused.value)


async def test_a_file_that_was_cut_is_known(load, file_of, drain, entries, http):
    for number in range(9):
        await post(http, f"p{number}", delta=number + 1)
    await drain()
    file = await file_of("race")
    with pytest.raises(BadLinesError, match="line 1 says that 9 players follow, there are 8: it was cut"):
        await load(b"".join(file.splitlines(keepends=True)[:-1]), "copy", choice=Choice())
    with pytest.raises(FileError, match="damaged, or was cut"):
        await load(gzip.compress(file)[:-20], "copy", choice=Choice())
    assert await entries("copy") == []


@pytest.mark.parametrize(
    "head", [b"", b"user,score", b"userId", b"userId,score,level", b"userId,score,score", b'{"userId":"ann","score":1}']
)
async def test_csv_names_its_columns(load, head):
    with pytest.raises(FileError, match="line 1 must name the columns userId and score"):
        await load(head + b"\n1,ann\n", kind="csv")


async def test_a_quote_that_never_closes_in_the_first_line_is_told(load):
    with pytest.raises(FileError, match=r"line 1 is no CSV, it went on up to line \d+: field larger"):
        await load(b'"userId,score\n' + b"ann,1\n" * 30_000, kind="csv")


async def test_csv_as_spreadsheets_write_it(load, entries, http, drain):
    await put(http, aggregation="best", tieBreak="earliest")
    file = (
        b'\xef\xbb\xbfreachedAt,"score",userId,rank\r\n2026-01-01T00:00:00+01:00,5,"b, ""c""",2\r\n\r\n,5,ann,1\r\n'
        b"2025-12-31T22:59:59.999999Z,5,cid,"
    )
    assert (await load(file, kind="csv", choice=Choice())).scores == 3
    assert await entries() == [('b, "c"', 5), ("ann", 5), ("cid", 5)]
    await drain()
    assert await top(http) == [("cid", 5), ('b, "c"', 5), ("ann", 5)]


async def test_a_line_without_end_is_not_read_into_memory(load):
    with pytest.raises(FileError, match="line 1 is longer than 65536 bytes"):
        await load(gzip.compress(b" " * 2**22))


async def test_the_season_is_to_be_as_the_scores_are_meant(load, http, drain, file_of, entries):
    with pytest.raises(SeasonNotFoundError, match="say --aggregation"):
        await load(lines(*SIXTY), choice=Choice())
    await put(http, aggregation="best", order="asc")
    await post(http, score=MAX_SCORE)
    await drain()
    file = await file_of("race")
    await put(http, path="/v1/seasons/sums")
    with pytest.raises(ConflictError, match=r"season sums has aggregation sum.*the scores are of aggregation best"):
        await load(file, "sums", choice=Choice())
    assert (await load(file, "sums", choice=Choice("sum", "desc"))).scores == 1
    with pytest.raises(ConflictError, match="season race has aggregation best"):
        await load(lines(*SIXTY), choice=Choice("latest"))
    assert (await load(lines(*SIXTY), choice=Choice())).scores == 60
    assert await entries() == [("ann", MAX_SCORE), *AS_ENTRIES]


async def test_a_season_that_takes_no_scores_is_told(load, http, monkeypatch):
    await put(http, startsAt="2126-01-01T00:00:00Z")
    with pytest.raises(ConflictError, match="season race is scheduled"):
        await load(lines(*SIXTY))
    await put(http)
    add = imported_files.add

    async def closed(*given, after):
        done = await add(*given)
        monkeypatch.setattr(imported_files, "add", add)
        await after()
        return done

    for after, told in (
        (lambda: http.delete(SEASON), "season race was reset meanwhile and is in epoch 2"),
        (lambda: http.post(f"{SEASON}/close"), "season race is closed"),
    ):
        monkeypatch.setattr(imported_files, "add", lambda *given, after=after: closed(*given, after=after))
        with pytest.raises(ConflictError, match=told):
            await load(lines(*SIXTY))


async def test_a_file_that_changes_meanwhile_is_told(settings, monkeypatch):
    raw, add = io.BytesIO(lines(*SIXTY)), imported_files.add

    async def changed(*given):
        raw.getbuffer()[-5:-3] = b"77"
        return await add(*given)

    monkeypatch.setattr(imported_files, "add", changed)
    with pytest.raises(FileError, match="the file was changed meanwhile: 60 scores of it count"):
        await imports.load(settings, Source(raw, "f", "ndjson"), "race", Choice("sum"), Manner())


async def test_it_waits_for_workers_where_that_is_asked_for(load, pool, drain, eventually, http):
    loading = asyncio.create_task(load(lines(*SIXTY), wait=True, backlog=10))
    await eventually("select from outbox where status = 'pending' having count(*) > 10")
    await asyncio.wait([loading], timeout=0.5)  # what did not wait would be through by then
    async with pool.connection() as conn:
        query = "select count(*) from outbox where status = 'pending'"
        assert await (await conn.execute(query)).fetchone() == (14,)  # the second seven went beyond ten
    while not loading.done():
        await eventually("select from outbox where status = 'pending' union all select from imports where lines = 60")
        await drain()
    assert (await loading).shown
    assert (await top(http))[0] == ("p59", 59)
