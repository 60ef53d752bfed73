"""asOf and movementSince: what a board was, and how far players have moved since."""

from __future__ import annotations

import asyncio
import datetime as dt

import psycopg
import pytest
from conftest import CrashError, client_of, crashing_at, serving
from season_calls import SEASON, post, put

from api.app import create_app
from cli.migrations import ROOT
from shared import epoch_purges, seasons, snapshots
from shared.postgres import connection_settings
from worker.app import snapshot_connection
from worker.snapshots import Snapshots

BOARD = f"{SEASON}/leaderboard"
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def now(pool):
    """What time it is for PostgreSQL."""

    async def ask():
        async with pool.connection() as conn:
            (moment,) = await (await conn.execute("select clock_timestamp()")).fetchone()
            return moment

    return ask


def text_of(moment):
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


async def get(http, path, status=200, **query):
    query = {name: text_of(value) if isinstance(value, dt.datetime) else value for name, value in query.items()}
    response = await http.get(f"{BOARD}/{path}", params=query)
    assert response.status_code == status, response.text
    return response.json() if status < 400 else response.json()["code"]


def players(found):
    return [(item["rank"], item["userId"], item["score"]) for item in found["items"]]


async def test_what_was_does_not_change(http, now, drain):
    before = await now()
    for user_id, delta in (("ann", 5), ("bob", 7), ("cid", 1)):
        await post(http, user_id, delta=delta)
    then = await now()
    await post(http, "ann", delta=3)
    await post(http, "dan", delta=6)
    await drain()
    found = await get(http, "top", asOf=then)
    assert players(found) == [(1, "bob", 7), (2, "ann", 5), (3, "cid", 1)]
    assert (found["asOf"], found["totalPlayers"], found["nextCursor"]) == (text_of(then), 3, None)
    assert players(await get(http, "top", asOf=then, limit=1, offset=1)) == [(2, "ann", 5)]
    rank = await get(http, "rank", asOf=then, userId="ann")
    assert rank == {
        "seasonId": "race",
        "userId": "ann",
        "rank": 2,
        "score": 5,
        "percentile": 100 * 2 / 3,
        "totalPlayers": 3,
        "asOf": text_of(then),
    }
    around = await get(http, "around", asOf=then, userId="ann", range=1)
    assert players(around) == [(1, "bob", 7), (2, "ann", 5), (3, "cid", 1)]
    around = await get(http, "around", asOf=then, score=5, range=1)
    assert (players(around), around["rank"]) == ([(2, "ann", 5), (3, "cid", 1)], 3)
    assert players(await get(http, "top", asOf=await now())) == players(await get(http, "top"))
    for path in ("top", "rank", "around"):
        for query in ({}, {"movementSince": then}):
            response = await http.get(f"{BOARD}/{path}", params={"userId": "ann", "asOf": text_of(then), **query})
            assert response.headers["cache-control"] == "max-age=60"
    tag = {"If-None-Match": (await http.get(f"{BOARD}/top?asOf={text_of(then)}")).headers["etag"]}
    assert (await http.get(f"{BOARD}/top?asOf={text_of(then)}", headers=tag)).status_code == 304
    # Not there yet: nobody on the board.
    assert (await get(http, "top", asOf=before))["items"] == []
    assert await get(http, "rank", 404, asOf=before, userId="ann") == "not_on_board"
    assert await get(http, "rank", 404, asOf=then, userId="dan") == "not_on_board"
    assert await get(http, "around", 404, asOf=then, userId="dan") == "not_on_board"
    found = await get(http, "around", asOf=before, score=5)
    assert (found["rank"], found["items"]) == (1, [])
    unknown = await http.get(f"/v1/seasons/never/leaderboard/top?asOf={text_of(then)}")
    assert (unknown.status_code, unknown.json()["items"]) == (200, [])


async def test_movement(http, now, drain):
    for user_id, delta in (("ann", 5), ("bob", 7), ("cid", 1), ("eve", 1)):
        await post(http, user_id, delta=delta)
    then = await now()
    await post(http, "ann", delta=3)
    await post(http, "dan", delta=6)
    middle = await now()
    await post(http, "cid", delta=9)
    await drain()

    def moved(found):
        return [(item["rank"], item["userId"], item["previousRank"], item["movement"]) for item in found["items"]]

    right = [(1, "cid", 4, 3), (2, "ann", 2, 0), (3, "bob", 1, -2), (4, "dan", None, None), (5, "eve", 3, -2)]
    found = await get(http, "top", movementSince=then)
    assert moved(found) == right
    assert "asOf" not in found
    page = await get(http, "top", movementSince=then, limit=2)
    rest = await get(http, "top", movementSince=then, limit=5, cursor=page["nextCursor"])
    assert moved(page) + moved(rest) == right
    assert moved(await get(http, "around", movementSince=then, userId="ann", range=1)) == right[:3]
    assert moved(await get(http, "around", movementSince=then, score=8, range=1)) == right[1:3]
    rank = await get(http, "rank", movementSince=then, userId="dan")
    assert (rank["rank"], rank["previousRank"], rank["movement"]) == (4, None, None)
    rank = await get(http, "rank", movementSince=then, userId="cid")
    assert (rank["rank"], rank["previousRank"], rank["movement"]) == (1, 4, 3)
    shared = await get(http, "rank", movementSince=then, userId="cid", ties="competition")
    assert (shared["previousRank"], shared["movement"]) == (3, 2)
    found = await get(http, "top", movementSince=then, asOf=middle, limit=2)
    assert moved(found) == [(1, "ann", 2, 1), (2, "bob", 1, -1)]
    response = await http.get(f"{BOARD}/rank?userId=ann&movementSince={text_of(then)}")
    assert response.headers["cache-control"] == "no-store"
    assert await get(http, "top", 400, movementSince=then, limit=101) == "invalid_limit"
    assert await get(http, "around", 400, movementSince=then, userId="ann", range=50) == "invalid_range"
    assert len((await get(http, "around", movementSince=then, userId="ann", range=49))["items"]) == 5


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("asOf=yesterday", "invalid_moment"),
        ("asOf=", "invalid_moment"),
        ("asOf=2026-03-01T12:00:00", "invalid_moment"),
        ("asOf=2026-03-01", "invalid_moment"),
        ("asOf=1969-03-01T12:00:00Z", "invalid_moment"),
        ("asOf=9998-03-01T12:00:00Z", "invalid_moment"),
        ("movementSince=9998-03-01T12:00:00Z", "invalid_moment"),
        ("movementSince=1760000000", "invalid_moment"),
        ("asOf=2026-03-01T12:00:00+01:00", "invalid_moment"),  # + is a blank in a query
        ("asOf=2026-03-01T12:00:00Z&window=24h", "invalid_window"),
        ("movementSince=2026-03-01T12:00:00Z&window=24h", "invalid_window"),
        ("asOf=2026-03-01T12:00:00Z&ties=none", "invalid_ties"),
    ],
)
async def test_what_can_not_be_asked(http, drain, query, code):
    await post(http, delta=5)
    await drain()
    for path in ("top", "rank", "around"):
        response = await http.get(f"{BOARD}/{path}?userId=ann&{query}")
        assert (response.status_code, response.json()["code"]) == (400, code), response.text


async def test_a_board_that_takes_too_long_says_why_and_what_helps(settings, add, now, pool):
    await add(("race", "ann", 5))
    then, hasty = await now(), settings.model_copy(update={"request_timeout_ms": 300})
    async with (
        serving(create_app(hasty)) as base_url,
        client_of(base_url) as client,
        pool.connection() as conn,
        conn.transaction(),
    ):
        await conn.execute("lock table snapshots")
        response = await client.get(f"{BOARD}/top?asOf={text_of(then)}")
    assert (response.status_code, response.json()["code"]) == (503, "deadline_exceeded")
    told, _, section = response.json()["error"].partition("docs/runbook.md, ")
    assert "too many scores came between the last snapshot and that moment" in told
    assert f"\n## {section.removesuffix(')')}\n" in (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


async def test_a_cursor_does_not_go_with_as_of(http, now, drain):
    for user_id in ("ann", "bob"):
        await post(http, user_id, delta=5)
    await drain()
    cursor = (await get(http, "top", limit=1))["nextCursor"]
    assert await get(http, "top", 400, asOf=await now(), cursor=cursor) == "invalid_cursor"
    assert await get(http, "top", 400, movementSince=await now(), cursor=cursor, offset=1) == "invalid_cursor"


async def test_boards_of_epochs_that_are_over(http, pool, now):
    """Archived ones stay; others are gone with the reset, whether or not their rows are deleted already."""
    await put(http, tieBreak="earliest")
    await post(http, "ann", delta=5)
    first = await now()
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["race"])
        await seasons.begin_next_epoch(conn, "race", archived=True)
    await post(http, "bob", delta=7)
    second = await now()
    assert (await http.delete(SEASON)).status_code == 200
    await put(http, aggregation="best", order="asc")
    third = await now()
    await post(http, "cid", score=9)
    await post(http, "dan", score=8)
    last = await now()
    assert players(await get(http, "top", asOf=first)) == [(1, "ann", 5)]
    assert await get(http, "top", 410, asOf=second) == "epoch_gone"
    assert await get(http, "rank", 410, asOf=second, userId="bob") == "epoch_gone"
    assert await get(http, "top", 410, movementSince=second) == "epoch_gone"
    assert players(await get(http, "top", asOf=third)) == []
    assert players(await get(http, "top", asOf=last)) == [(1, "dan", 8), (2, "cid", 9)]


async def test_a_closed_season_shows_its_board_until_it_is_reset(http, pool, now):
    await post(http, "ann", delta=5)
    async with pool.connection() as conn, conn.transaction():
        await conn.execute(
            "insert into season_epochs (season_id, epoch, aggregation, sort_order, windows, tie_break, began_at,"
            " ended_at, reason, archived) select season_id, epoch, 'sum', 'desc', false, 'member', created_at,"
            " clock_timestamp(), 'close', true from seasons"
        )
    closed = await now()
    assert players(await get(http, "top", asOf=closed)) == [(1, "ann", 5)]
    async with pool.connection() as conn, conn.transaction():
        await seasons.lock(conn, ["race"])
        await seasons.begin_next_epoch(conn, "race")
    assert players(await get(http, "top", asOf=closed)) == [(1, "ann", 5)]
    assert players(await get(http, "top", asOf=await now())) == []


async def test_epochs_of_before_they_were_noted_are_gone(http, pool, now):
    """When the current one began its first score says, and until there is one the token of the reset."""
    await post(http, "ann", delta=5)
    early = await now()
    async with pool.connection() as conn:
        await conn.execute("update seasons set epoch = 3")
        await seasons.advance(conn, ["race"])
        empty = await now()
        assert await get(http, "top", 410, asOf=early) == "epoch_gone"
        assert players(await get(http, "top", asOf=empty)) == []
        await post(http, "bob", delta=7)
        scored = await now()
        assert await get(http, "top", 410, asOf=early) == "epoch_gone"
        assert await get(http, "top", 410, asOf=empty) == "epoch_gone"
        assert players(await get(http, "top", asOf=scored)) == [(1, "bob", 7)]
        # Its own end is noted.
        assert (await http.delete(f"{SEASON}?archive=true")).status_code == 200
        assert await get(http, "top", 410, asOf=early) == "epoch_gone"
        assert players(await get(http, "top", asOf=scored)) == [(1, "bob", 7)]


async def test_moderation_holds_from_when_it_was_asked_for(http, pool, settings, now, drain):
    """Whether or not a worker came to it yet, with and without a snapshot; erasure reaches back."""
    for user_id, delta in (("ann", 5), ("ann", 2), ("bob", 4), ("cid", 1)):
        await post(http, user_id, delta=delta)
    await drain()
    await Snapshots(pool, snapshot_connection(settings), 4, lambda _step: None).run()
    async with pool.connection() as conn:
        (event_id,) = await (await conn.execute("select min(id) from score_events")).fetchone()
    because = {"reason": "test"}
    moments = [await now()]
    boards = [[(1, "ann", 7), (2, "bob", 4), (3, "cid", 1)]]
    for path, board in (
        (f"events/{event_id}/void", [(1, "bob", 4), (2, "ann", 2), (3, "cid", 1)]),
        ("users/bob/hide", [(1, "ann", 2), (2, "cid", 1)]),
        ("users/bob/unhide", [(1, "bob", 4), (2, "ann", 2), (3, "cid", 1)]),
    ):
        assert (await http.post(f"{SEASON}/{path}", json=because)).status_code == 202
        moments.append(await now())
        boards.append(board)

    async def told():
        return [players(await get(http, "top", asOf=moment)) for moment in moments]

    assert await told() == boards
    await drain()
    assert await told() == boards
    assert (await http.delete(f"{SEASON}/users/ann", params=because)).status_code == 202
    await post(http, "ann", delta=1)
    await drain()
    assert (await told())[0] == [(1, "bob", 4), (2, "cid", 1)]
    assert players(await get(http, "top", asOf=await now())) == [(1, "bob", 4), (2, "cid", 1), (3, "ann", 1)]
    async with pool.connection() as conn:
        assert await (await conn.execute("select from snapshot_standings where user_id = 'ann'")).fetchall() == []
    # Who was hidden and then erased is nobody any more, and not hidden either.
    assert (await http.post(f"{SEASON}/users/cid/hide", json=because)).status_code == 202
    assert (await http.delete(f"{SEASON}/users/cid", params=because)).status_code == 202
    await post(http, "cid", delta=9)
    await drain()
    assert players(await get(http, "top", asOf=await now())) == players(await get(http, "top"))


async def test_a_score_that_is_being_committed_is_waited_for(http, settings, now, eventually):
    """Its moment has come, but nobody sees it yet: an answer now would be another one in a moment."""
    await post(http, "bob", delta=7)
    conninfo = connection_settings(
        settings.postgres_dsn, "api", statement_ms=5000, lock_ms=5000, idle_in_transaction_ms=15_000
    )
    async with await psycopg.AsyncConnection.connect(conninfo) as conn:
        await conn.execute("insert into score_events (season_id, epoch, user_id, delta) values ('race', 1, 'ann', 5)")
        asking = asyncio.create_task(get(http, "top", asOf=await now()))
        await eventually(
            "select from pg_stat_activity where application_name = 'leaderboard-api' and query like '%xact_start <=%'"
        )
        await conn.commit()
        assert players(await asking) == [(1, "bob", 7), (2, "ann", 5)]


async def test_the_worker_keeps_a_snapshot_after_so_many_scores(http, pool, settings, now, drain):
    async def kept(query="select players, (select count(*) from snapshot_standings) from snapshots order by as_of"):
        async with pool.connection() as conn:
            return await (await conn.execute(query)).fetchall()

    def worker(reach=lambda _step: None):
        return Snapshots(pool, snapshot_connection(settings), 3, reach)

    early = await now()
    for user_id in ("ann", "bob"):
        await post(http, user_id, delta=5)
    await drain()
    one, other = worker(), worker()
    await one.run()
    assert await kept() == []
    await post(http, "cid", delta=9)
    await drain()
    with pytest.raises(CrashError):
        await worker(crashing_at("snapshot-written")).run()
    assert await kept() == []
    await asyncio.gather(one.run(), other.run())
    assert await kept() == [(3, 3)]
    await one.run()
    assert await kept() == [(3, 3)]
    then = await now()
    await post(http, "bob", delta=1)
    await drain()
    assert players(await get(http, "top", asOf=then)) == [(1, "cid", 9), (2, "bob", 5), (3, "ann", 5)]
    found = await get(http, "top", movementSince=then, asOf=await now())
    assert [(item["userId"], item["movement"]) for item in found["items"]] == [("cid", 0), ("bob", 0), ("ann", 0)]
    assert (await get(http, "top", asOf=early))["items"] == []
    async with pool.connection() as conn:
        async with conn.transaction():
            await snapshots.forget(conn, "race", "bob", again=True)
        assert await kept("select players, unsettled, erased from snapshots") == [(2, ["bob"], [2])]
        await conn.execute("update seasons set epoch = epoch + 1")
        assert await snapshots.purge(conn, 1) == 1
        assert await snapshots.purge(conn, 100) == 1
    assert await kept() == []


async def test_snapshots_go_with_their_epoch_and_stay_with_its_archive(add, pool, settings, drain):
    async def purged():
        """How many standings, and how many snapshots are left."""
        deleted = await snapshots.purge(conn, 100)
        return deleted, (await (await conn.execute("select count(*) from snapshots")).fetchone())[0]

    await add(("race", "ann", 5), ("race", "bob", 7))
    await drain()
    await Snapshots(pool, snapshot_connection(settings), 2, lambda _step: None).run()
    async with pool.connection() as conn:
        assert await purged() == (0, 1)
        async with conn.transaction():
            await seasons.lock(conn, ["race"])
            await seasons.begin_next_epoch(conn, "race", archived=True)
        assert await purged() == (0, 1)
        await conn.execute("update season_epochs set sealed_at = now() - interval '3 days'")
        assert await epoch_purges.expire(conn, 4) == 0
        assert await purged() == (0, 1)
        assert await epoch_purges.expire(conn, 2) == 1
        assert await purged() == (2, 0)


async def test_what_is_due_while_snapshots_rest_is_made_later_of_the_same_moments(
    http, pool, settings, now, drain, monkeypatch
):
    """Whether or not scores still come by then; each takes half a second here, and is followed by none for 9.5."""
    # Longer ago than any of these scores: who is not due when looked at is not looked at again.
    monkeypatch.setattr("worker.snapshots._LOOK_BACK_MICROSECONDS", -60_000_000)
    seconds, told = 0.0, []

    def clock():
        nonlocal seconds
        seconds += 0.5
        return seconds

    async def kept():
        async with pool.connection() as conn:
            return [at for (at,) in await (await conn.execute("select as_of from snapshots order by as_of")).fetchall()]

    keeper = Snapshots(pool, snapshot_connection(settings), 3, lambda _step: None, clock)
    for number in range(11):
        await post(http, f"p{number % 4}", delta=number + 1)
        told.append((await now(), players(await get(http, "top", asOf=await now()))))
        if number == 2:
            await drain()
            await keeper.run()
    await drain()
    async with pool.connection() as conn:
        found = await (await conn.execute("select created_at from score_events order by id")).fetchall()
    moments = [at for (at,) in found]
    for due in (1, 1, 1, 2, 2, 3):
        assert await kept() == moments[2::3][:due]
        await keeper.run()
        seconds += 5.0
    assert await kept() == moments[2::3]
    assert [players(await get(http, "top", asOf=at)) for at, _ in told] == [board for _, board in told]


async def test_a_score_that_came_before_the_last_snapshot_is_not_counted_for_the_next(pool, settings):
    """Though its id is higher than that of one that came later: commits are not in the order of their ids."""

    async def add(conn, *seconds):
        for second in seconds:
            query = (
                "insert into score_events (season_id, epoch, user_id, delta, created_at) values ('s', 1, 'ann', 1, %s)"
            )
            await conn.execute(query, (at[second],))

    async def kept(conn):
        return [
            found for (found,) in await (await conn.execute("select as_of from snapshots order by as_of")).fetchall()
        ]

    at = [dt.datetime(2026, 3, 1, 0, 0, second, tzinfo=dt.UTC) for second in range(10)]
    keeper = Snapshots(pool, snapshot_connection(settings), 2, lambda _step: None, clock=lambda: 0.0)
    async with pool.connection() as conn:
        await conn.execute("insert into seasons (season_id, token, created_at) values ('s', 1, %s)", (at[0],))
        await add(conn, 1, 3, 5, 2)
        await keeper.run()
        await keeper.run()
        assert await kept(conn) == [at[3]]
        season = await snapshots.of_season(conn, "s")
        (late,) = await (await conn.execute("select max(id) from score_events")).fetchone()
        assert (season.low_id, await snapshots.count(conn, season, season.low_id, 10)) == (late - 2, (1, late - 1))
        # As if the one that made it due were erased: the last one before it that came since then.
        assert await snapshots.make(conn, season, late) == 1
        assert await kept(conn) == [at[3], at[5]]


async def test_a_player_who_is_erased_meanwhile_is_in_no_snapshot(add, pool, settings, drain):
    await add(("race", "ann", 5), ("race", "bob", 7))
    await drain()
    with psycopg.connect(settings.postgres_dsn, autocommit=True) as other:

        def erase(_step):
            other.execute("update seasons set patch_floor = token")

        await Snapshots(pool, snapshot_connection(settings), 1, erase).run()
        assert other.execute("select from snapshots").fetchall() == []
        assert other.execute("select from snapshot_standings").fetchall() == []


async def test_players_who_are_erased_stop_no_snapshots(http, pool, settings, drain):
    """The distance to the next one goes by their number, and may fall below what was counted."""
    names = [f"p{number}" for number in range(40)]
    for name in names:
        await post(http, name, delta=1)
    await drain()
    await Snapshots(pool, snapshot_connection(settings), 40, lambda _step: None).run()
    keeper = Snapshots(pool, snapshot_connection(settings), 2, lambda _step: None, clock=lambda: 0.0)
    for name in names[20:29]:  # of the ten that make the next one
        await post(http, name, delta=1)
    await drain()
    await keeper.run()
    for name in names[:12]:
        await http.delete(f"{SEASON}/users/{name}?reason=test")
    await post(http, path="/v1/seasons/other", delta=1)
    await post(http, "bob", path="/v1/seasons/other", delta=1)
    await drain()
    await keeper.run()
    async with pool.connection() as conn:
        found = await (await conn.execute("select season_id, players from snapshots order by snapshot_id")).fetchall()
    assert sorted(found) == [("other", 2), ("race", 28), ("race", 28)]
