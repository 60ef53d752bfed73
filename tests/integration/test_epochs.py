"""Epochs that are over: noted, archived, sealed with all that was accepted, read, and gone past their retention."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product

import psycopg
import pytest
from conftest import CrashError, crashing_at
from season_calls import SEASON, post, put, top

from api.app import api_connection
from shared import epochs, erasing, ledger, sealing, seasons
from shared.errors import ConflictError
from shared.scores import Score
from worker.sealer import SEAL_STEPS, Sealer
from worker.upkeep import Purge

ARCHIVE = f"{SEASON}?archive=true"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
RULES = tuple(product((("sum", "delta"), ("best", "score"), ("latest", "score")), ("desc", "asc"), (False, True)))


@pytest.fixture
def sealer(pool):
    return Sealer(pool, pool, lambda _step: None)


@pytest.fixture
def sealed(pool, sealer):
    """Seals until nothing waits to be sealed; the test's own timeout bounds it."""

    async def seal():
        async with pool.connection() as conn:
            while await _first(conn, f"select 1 from season_epochs where {epochs.UNSEALED}"):
                await sealer.run()

    return seal


@pytest.fixture
def rounds(sealer):
    """Rounds of the sealer, the last of which would seal what the first one saw."""

    async def seal():
        loop = asyncio.get_running_loop()
        await sealer.run()
        late = loop.time() + 0.03  # beyond the leeway of `shared.settling`
        while loop.time() < late:
            await sealer.run()
        await sealer.run()  # the one before may have begun too early

    return seal


async def _run_for_ever(sealer):
    while True:
        await sealer.run()


async def _first(conn, query, *parameters):
    row = await (await conn.execute(query, parameters or None)).fetchone()
    return None if row is None else row[0]


async def archived(http, path=SEASON):
    response = await http.delete(f"{path}?archive=true")
    assert response.status_code == 200, response.text
    return response.json()


async def epoch_top(http, epoch, path=SEASON, **query):
    response = await http.get(f"{path}/epochs/{epoch}/leaderboard/top", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def refused(http, path, **query):
    response = await http.get(f"{SEASON}/epochs{path}", params=query)
    return response.status_code, response.json()["code"]


async def states(http):
    return {item["epoch"]: item["state"] for item in (await http.get(f"{SEASON}/epochs")).json()["items"]}


async def test_an_archived_epoch_stays_readable(http, drain, sealed):
    await put(http)
    for number in range(1, 6):
        assert await post(http, f"u{number}", delta=number) == (202, None)
    await drain()
    assert await post(http, "late", delta=9) == (202, None)  # not on the board when the epoch ends
    assert await archived(http) == {"seasonId": "race", "deleted": True, "epoch": 1, "archived": True}
    assert await refused(http, "/1/leaderboard/top") == (409, "epoch_sealing")
    assert (await http.get(f"{SEASON}/epochs/1/leaderboard/top")).headers["retry-after"] == "1"
    assert await states(http) == {2: "current", 1: "sealing"}
    assert await post(http, "new", delta=1) == (202, None)
    await drain()
    await sealed()

    everybody = [("late", 9), ("u5", 5), ("u4", 4), ("u3", 3), ("u2", 2), ("u1", 1)]
    found = await epoch_top(http, 1)
    assert [(item["userId"], item["score"]) for item in found["items"]] == everybody
    assert [item["rank"] for item in found["items"]] == [1, 2, 3, 4, 5, 6]
    assert {name: found[name] for name in ("seasonId", "epoch", "totalPlayers", "nextCursor")} == {
        "seasonId": "race",
        "epoch": 1,
        "totalPlayers": 6,
        "nextCursor": None,
    }
    paged, cursor = [], {"offset": 1}
    while cursor:
        found = await epoch_top(http, 1, limit=2, **cursor)
        paged += [item["userId"] for item in found["items"]]
        cursor = {"cursor": found["nextCursor"]} if found["nextCursor"] else {}
    assert paged == [user_id for user_id, _ in everybody[1:]]

    response = await http.get(f"{SEASON}/epochs/1/leaderboard/rank?userId=u5")
    place = {"rank": 2, "score": 5, "percentile": 100 * 5 / 6, "totalPlayers": 6}
    assert response.json() == {"seasonId": "race", "userId": "u5", **place, "epoch": 1}
    assert response.headers["cache-control"] == "no-cache"
    again = await http.get(response.request.url, headers={"if-none-match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    first, second = (await http.get(f"{SEASON}/epochs")).json()["items"]
    assert (first["epoch"], first["state"], first["players"], first["endedAt"]) == (2, "current", 1, None)
    assert (second["state"], second["players"], second["reason"]) == ("archived", 6, "reset")
    moments = [second["beganAt"], second["endedAt"], first["beganAt"], second["sealedAt"]]
    assert moments == sorted(moments, key=dt.datetime.fromisoformat)
    around = await http.get(f"{SEASON}/epochs/1/leaderboard/around?userId=u3&range=1")
    neighbours = [(3, "u4", 4), (4, "u3", 3), (5, "u2", 2)]
    items = [{"rank": rank, "userId": user_id, "score": score} for rank, user_id, score in neighbours]
    assert around.json() == {"seasonId": "race", "userId": "u3", "range": 1, "items": items, "epoch": 1}
    again = await http.get(around.request.url, headers={"if-none-match": around.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "no-cache")

    assert await top(http) == [("new", 1)]
    current = await epoch_top(http, 2)
    assert (current["epoch"], current["totalPlayers"], current["items"][0]["userId"]) == (2, 1, "new")
    assert (await http.get(f"{SEASON}/epochs/2/leaderboard/rank?userId=new")).json()["rank"] == 1
    found = (await http.get(f"{SEASON}/epochs/2/leaderboard/around?userId=new")).json()
    assert (found["epoch"], found["range"], found["items"]) == (2, 5, [{"rank": 1, "userId": "new", "score": 1}])


async def test_what_is_not_there_is_told_apart(http, drain, sealed):
    assert await refused(http, "") == (404, "season_not_found")
    assert await refused(http, "/1/leaderboard/top") == (404, "season_not_found")
    assert (await http.delete(ARCHIVE)).json() == {
        "seasonId": "race",
        "deleted": True,
        "epoch": None,
        "archived": False,
    }
    assert (await http.delete(f"{SEASON}?archive=yes")).json()["code"] == "invalid_archive"
    assert await post(http, delta=1) == (202, None)
    assert (await http.delete(f"{SEASON}?archive=false")).json() == {"seasonId": "race", "deleted": True}
    assert await post(http, delta=1) == (202, None)
    await archived(http)
    await drain()
    await sealed()
    for path, said in (("1", "was not archived"), ("4", "no epoch 4 yet")):
        response = await http.get(f"{SEASON}/epochs/{path}/leaderboard/top")
        assert (response.status_code, response.json()["code"]) == (404, "epoch_not_found")
        assert said in response.json()["error"]
    for path, query, code in (
        ("/0/leaderboard/top", {}, "invalid_epoch"),
        ("/x/leaderboard/rank", {"userId": "ann"}, "invalid_epoch"),
        ("/2147483648/leaderboard/top", {}, "invalid_epoch"),
        ("/2/leaderboard/rank", {}, "invalid_user_id"),
        ("/2/leaderboard/top", {"limit": 1001}, "invalid_limit"),
        ("/2/leaderboard/top", {"cursor": "1", "offset": 1}, "invalid_cursor"),
        ("/2/leaderboard/top", {"cursor": "9" * 10}, "invalid_cursor"),
        ("/3/leaderboard/top", {"cursor": "1"}, "invalid_cursor"),
        ("/2/leaderboard/top", {"window": "24h"}, "invalid_query"),
        ("/2/leaderboard/rank", {"userId": "ann", "ties": "competition"}, "invalid_query"),
        ("/0/leaderboard/around", {"userId": "ann"}, "invalid_epoch"),
        ("/2/leaderboard/around", {}, "invalid_user_id"),
        ("/2/leaderboard/around", {"userId": "ann", "range": 101}, "invalid_range"),
        ("/2/leaderboard/around", {"userId": "ann", "score": 1}, "invalid_query"),
        ("/2/leaderboard/around", {"userId": "ann", "window": "24h"}, "invalid_query"),
        ("", {"limit": 0}, "invalid_limit"),
        ("", {"cursor": "x"}, "invalid_cursor"),
    ):
        assert await refused(http, path, **query) == (400, code), (path, query)
    for question in ("rank", "around"):
        assert await refused(http, f"/2/leaderboard/{question}", userId="nobody") == (404, "not_on_board")
        assert await refused(http, f"/3/leaderboard/{question}", userId="nobody") == (404, "not_on_board")
        assert await refused(http, f"/1/leaderboard/{question}", userId="ann") == (404, "epoch_not_found")
    assert (await http.request("DELETE", f"{SEASON}/epochs")).status_code == 405

    seen, cursor = [], {}
    while cursor is not None:
        found = (await http.get(f"{SEASON}/epochs", params={"limit": 1, **cursor})).json()
        seen += [(item["epoch"], item["state"]) for item in found["items"]]
        cursor = {"cursor": found["nextCursor"]} if found["nextCursor"] else None
    assert seen == [(3, "current"), (2, "archived"), (1, "ended")]


async def test_asked_again_nothing_empty_is_archived(http, drain, sealed):
    assert await post(http, delta=1) == (202, None)
    answers = await asyncio.gather(*(archived(http) for _ in range(4)))
    assert answers == [{"seasonId": "race", "deleted": True, "epoch": 1, "archived": True}] * 4
    await drain()
    await sealed()
    assert await states(http) == {2: "current", 1: "archived"}
    # One that was closed ends all the same, so that the season is open again.
    await http.post(f"{SEASON}/close")
    assert (await archived(http))["epoch"] == 2
    assert (await archived(http))["epoch"] == 2
    assert (await http.get(SEASON)).json()["state"] == "open"
    await sealed()
    assert await states(http) == {3: "current", 2: "archived", 1: "archived"}
    assert (await epoch_top(http, 2))["totalPlayers"] == 0
    assert (await http.delete(SEASON)).json() == {"seasonId": "race", "deleted": True}
    assert await archived(http) == {"seasonId": "race", "deleted": True, "epoch": 3, "archived": False}


async def test_final_ranks_are_those_of_the_board(http, drain, sealed):
    """For all rules; some of the scores come when no batch will fold them any more."""
    boards = {}
    for number, ((aggregation, kind), order, earliest) in enumerate(RULES):
        path = f"/v1/seasons/s{number}"
        ties = {"tieBreak": "earliest"} if earliest else {}
        await put(http, path=path, aggregation=aggregation, order=order, windows=number % 2 == 1, **ties)
        for user_id, points in (("bob", 5), ("ann", 3), ("cy", 5), ("ann", 2), ("dan", -4), ("cy", 7), ("bob", 2)):
            assert await post(http, user_id, path=path, **{kind: points}) == (202, None)
        if aggregation != "sum":
            assert await post(http, "eve", path=path, score=5) == (202, None)
            assert await post(http, "bob", path=path, score=5) == (202, None)
    await drain()
    for number in range(len(RULES)):
        path = f"/v1/seasons/s{number}"
        boards[path] = (await http.get(f"{path}/leaderboard/top")).json()["items"]
        assert (await http.delete(ARCHIVE.replace("/race", f"/s{number}"))).json()["epoch"] == 1
    await sealed()
    for path, items in boards.items():
        assert (await epoch_top(http, 1, path))["items"] == items, path


async def test_what_does_not_count_is_in_no_final_rank(http, drain, sealed, pool):
    for user_id in ("ann", "bob", "cy", "dan", "eve", "hid"):
        assert await post(http, user_id, delta=1) == (202, None)
    await drain()
    async with pool.connection() as conn:
        await conn.execute("update score_events set voided_at = now() where user_id = 'bob'")
        await conn.execute("update score_events set discarded_at = now() where user_id = 'cy'")
        await conn.execute("update outbox set status = 'failed' where user_id = 'dan'")
        await conn.execute("delete from outbox where user_id = 'eve'")  # past its retention
        await conn.execute("insert into hidden_players values ('race', 'hid', now())")
    await archived(http)
    await sealed()
    found = await epoch_top(http, 1)
    assert [item["userId"] for item in found["items"]] == ["eve", "ann"]
    # Whoever is shown again later: what was said stays.
    async with pool.connection() as conn:
        await conn.execute("delete from hidden_players")
    assert await epoch_top(http, 1) == found
    # Somebody is erased: the others keep their ranks.
    async with pool.connection() as conn:
        await conn.execute("delete from final_ranks where season_id = 'race' and user_id = 'eve'")
    assert [item["rank"] for item in (await epoch_top(http, 1))["items"]] == [2]
    for question in ("rank", "around"):
        assert await refused(http, f"/1/leaderboard/{question}", userId="eve") == (404, "not_on_board")


async def test_sums_that_no_batch_folded_stay_within_what_a_board_holds(http, drain, sealed):
    for _ in range(3):
        assert await post(http, delta=2**53 - 1) == (202, None)
    await archived(http)
    await drain()
    await sealed()
    assert (await epoch_top(http, 1))["items"] == [{"rank": 1, "userId": "ann", "score": 2**53 - 1}]


@asynccontextmanager
async def scoring(settings, *scores):
    """A transaction of an API that has inserted scores and not committed them."""
    async with (
        await psycopg.AsyncConnection.connect(api_connection(settings), autocommit=True) as conn,
        conn.transaction(),
    ):
        await ledger.append(conn, [Score(*score) for score in scores])
        yield


async def test_sealing_waits_for_scores_that_are_on_their_way(http, pool, settings, drain, rounds, sealed):
    """Also for those of a transaction that began after the epoch's noted end, and before anybody could see it."""
    assert await post(http, delta=1) == (202, None)
    async with AsyncExitStack() as on_its_way:
        async with pool.connection() as conn, conn.transaction():
            await seasons.lock(conn, ["race"])
            await seasons.begin_next_epoch(conn, "race", archived=True)
            await on_its_way.enter_async_context(scoring(settings, ("race", "bob", 2)))
        await drain()
        await rounds()
        assert await states(http) == {2: "current", 1: "sealing"}
    await rounds()
    assert await states(http) == {2: "current", 1: "sealing"}  # its event is pending
    await drain()
    await sealed()
    assert [item["userId"] for item in (await epoch_top(http, 1))["items"]] == ["bob", "ann"]


async def test_a_sealing_that_dies_left_nothing_or_all(http, pool, drain, sealed):
    for epoch, step in enumerate(SEAL_STEPS, start=1):
        for user_id in ("ann", "bob"):
            assert await post(http, user_id, delta=1) == (202, None)
        assert (await archived(http))["epoch"] == epoch
        await drain()
        with pytest.raises(CrashError):
            await _run_for_ever(Sealer(pool, pool, crashing_at(step)))
        async with pool.connection() as conn:
            done = step == SEAL_STEPS[-1]
            written = await _first(conn, "select count(*) from final_ranks where epoch = %s", epoch)
            assert written == (2 if done else 0)
            assert await _first(conn, "select sealed_at is not null from season_epochs where epoch = %s", epoch) is done
        await sealed()
        assert (await epoch_top(http, epoch))["totalPlayers"] == 2


async def test_an_event_that_is_pending_again_is_waited_for(http, pool, drain, sealed):
    """Somebody retries it when everything else was done, and its epoch is being sealed."""
    for user_id in ("ann", "bob"):
        assert await post(http, user_id, delta=1) == (202, None)
    await archived(http)
    await drain()
    with psycopg.connect(pool.conninfo, autocommit=True) as conn:

        def reach(_step):
            if not retried:
                retried.append(conn.execute("update outbox set status = 'pending' where user_id = 'bob'").rowcount)

        conn.execute("update outbox set status = 'failed' where user_id = 'bob'")
        retried = []
        interrupted = Sealer(pool, pool, reach)
        while not retried:
            await interrupted.run()
        assert conn.execute("select count(*) from final_ranks").fetchone() == (0,)
    await drain()
    await sealed()
    assert (await epoch_top(http, 1))["totalPlayers"] == 2


async def test_two_sealers_at_once(http, pool, drain):
    for number in range(8):
        path = f"/v1/seasons/s{number}"
        await asyncio.gather(*(post(http, f"u{player}", path=path, delta=1) for player in range(5)))
        await archived(http, path)
    await drain()
    both = [Sealer(pool, pool, lambda _step: None) for _ in range(2)]
    async with pool.connection() as conn:
        while await _first(conn, f"select 1 from season_epochs where {epochs.UNSEALED}"):
            await asyncio.gather(*(each.run() for each in both))
        assert await _first(conn, "select array_agg(distinct players) from season_epochs") == [5]
        assert await _first(conn, "select count(*) from final_ranks") == 40


async def test_an_erasure_waits_for_the_end_of_a_sealing_that_is_under_way(http, pool, drain):
    """Else the sealing would have to begin anew with each, and of a large epoch perhaps never come to its end."""
    for user_id in ("ann", "bob"):
        assert await post(http, user_id, delta=1) == (202, None)
    await archived(http)
    await drain()
    async with pool.connection() as conn:
        async with conn.transaction():
            claimed = await sealing.claim(conn, "race", 1)
            players = await sealing.rank(conn, claimed)
            assert (await http.delete(f"{SEASON}/users/bob?reason=test")).status_code == 202
            assert await post(http, "ann", path="/v1/seasons/other", delta=1) == (202, None)
            assert await drain() == 1
            await sealing.note(conn, claimed, players)
        assert [item["userId"] for item in (await epoch_top(http, 1))["items"]] == ["bob", "ann"]
        assert await drain() == 1
        assert [item["userId"] for item in (await epoch_top(http, 1))["items"]] == ["ann"]
        assert await post(http, delta=1) == (202, None)
        await archived(http)
        await drain()
        async with pool.connection() as other, other.transaction():
            await other.execute(f"select {erasing.MAY_ERASE}", ("race",))
            async with conn.transaction():
                assert await sealing.claim(conn, "race", 2) is None
        async with conn.transaction():
            assert await sealing.claim(conn, "race", 2) is not None


async def test_a_player_who_is_erased_meanwhile_is_in_no_final_rank(http, pool, drain, sealed):
    for user_id in ("ann", "bob"):
        assert await post(http, user_id, delta=1) == (202, None)
    await archived(http)
    await drain()

    def reach(step):
        """Between its look at the ledger and its end."""
        if step == "seal_ranked" and not erased:
            erased.append("bob")
            with psycopg.connect(pool.conninfo, autocommit=True) as conn, conn.transaction():
                conn.execute("select from seasons where season_id = 'race' for update")
                conn.execute("delete from score_events where user_id = 'bob'")
                conn.execute("delete from final_ranks where season_id = 'race' and user_id = 'bob'")
                conn.execute("update seasons set token = token + 1, patch_floor = token + 1")

    erased = []
    interrupted = Sealer(pool, pool, reach)
    while not erased:
        await interrupted.run()
    assert await states(http) == {2: "current", 1: "sealing"}
    await sealed()
    assert [item["userId"] for item in (await epoch_top(http, 1))["items"]] == ["ann"]


async def test_a_closed_epoch_ended_when_it_was_closed(http, drain, rounds, sealed):
    assert await post(http, delta=1) == (202, None)
    await http.post(f"{SEASON}/close")
    (noted,) = (await http.get(f"{SEASON}/epochs")).json()["items"]
    assert (noted["state"], noted["reason"], noted["players"]) == ("current", "close", 0)
    await http.post(f"{SEASON}/close")
    await drain()
    await rounds()
    assert (await epoch_top(http, 1))["totalPlayers"] == 1
    assert (await archived(http))["epoch"] == 1
    await sealed()
    current, ended = (await http.get(f"{SEASON}/epochs")).json()["items"]
    assert (ended["endedAt"], ended["reason"], ended["players"]) == (noted["endedAt"], "close", 1)
    assert current["beganAt"] > ended["endedAt"]


async def test_an_end_that_came_can_be_put_off_until_it_is_sealed(http, pool, drain, sealed):
    await put(http, endsAt=(NOW - DAY).isoformat())
    later = (NOW + DAY).isoformat()

    async def end():
        async with pool.connection() as conn, conn.transaction():
            await seasons.lock(conn, ["race"])
            await epochs.end(conn, "race", "end")
            await conn.execute("update season_epochs set wanted = true")

    await end()
    await put(http, 200, endsAt=(NOW - 2 * DAY).isoformat())  # nothing to put off
    assert (await http.get(f"{SEASON}/epochs")).json()["items"][0]["reason"] == "end"
    await put(http, 200, endsAt=later)
    assert (await http.get(f"{SEASON}/epochs")).json()["items"][0]["endedAt"] is None
    assert await post(http, delta=1) == (202, None)
    await put(http, 200, endsAt=(NOW - DAY).isoformat())
    await end()
    await drain()
    await sealed()
    assert (await put(http, 409, endsAt=later))["code"] == "epoch_sealed"
    assert (await put(http, 409))["code"] == "epoch_sealed"
    async with pool.connection() as conn:
        with pytest.raises(ConflictError):
            await epochs.reopen(conn, "race")
        assert await _first(conn, "select players from season_epochs") == 1
    assert (await http.delete(SEASON)).status_code == 200
    await put(http, 200, endsAt=later)


async def test_what_is_archived_stays_until_its_retention_is_over(http, pool, projection, drain, sealed):
    async def counts(where="true"):
        async with pool.connection() as conn:
            return [
                await _first(conn, f"select count(*) from {table} where {where}")
                for table in ("score_events", "final_ranks", "standings")
            ]

    async def purge(days):
        await Purge(pool, projection, 24, 24, days).run()

    for player in range(5):
        assert await post(http, f"u{player}", delta=1) == (202, None)
    await drain()
    await archived(http)
    assert await post(http, delta=1) == (202, None)
    assert (await http.delete(SEASON)).status_code == 200
    await drain()
    await purge(0)
    assert await counts() == [5, 0, 0]  # the archived one's, which is not sealed yet
    await sealed()
    async with pool.connection() as conn:
        await conn.execute("update season_epochs set sealed_at = now() - interval '3 days' where archived")
        await purge(0)
        await purge(4)
        assert await counts() == [5, 5, 0]
        await purge(2)
        assert await refused(http, "/1/leaderboard/top") == (404, "epoch_not_found")
        assert await counts() == [5, 5, 0]  # who began to read it may do so to the end
        await conn.execute("update season_epochs set expired_at = now() - interval '2 minutes' where epoch = 1")
        await purge(2)
        assert await counts() == [0, 0, 0]
        assert await _first(conn, "select count(*) from season_epochs where purged_at is not null") == 0
        await conn.execute("update season_epochs set next_began_at = now() - interval '2 hours'")
        await purge(2)
        assert await _first(conn, "select count(*) from season_epochs where purged_at is not null") == 2
    assert await states(http) == {3: "current", 2: "ended", 1: "expired"}


async def test_epochs_that_nobody_noted_are_purged_too(http, pool, projection, add):
    """Those that an earlier build ended, before and after others that were noted; archives between them stay."""
    await add(("race", "u1", 1))

    async def end_unnoted():
        async with pool.connection() as conn:
            await conn.execute("update seasons set epoch = epoch + 1")

    for number in range(2, 8):
        if number == 4:
            await archived(http)
        else:
            await end_unnoted()
        await add(("race", f"u{number}", 1))
    await Purge(pool, projection, 24, 24).run()
    async with pool.connection() as conn:
        left = "select array_agg(epoch order by epoch) from score_events"
        assert await _first(conn, left) == [3, 7]
        # The next one that is noted closes the gap.
        await http.delete(SEASON)
        assert await states(http) == {8: "current", 7: "ended", 6: "ended", 5: "ended", 4: "ended", 3: "sealing"}
        await Purge(pool, projection, 24, 24).run()
        assert await _first(conn, left) == [3]


async def test_epochs_of_which_nothing_is_left_are_forgotten_in_the_end(http, pool):
    assert await post(http, delta=1) == (202, None)
    assert (await http.delete(SEASON)).status_code == 200
    async with pool.connection() as conn:
        await conn.execute("update season_epochs set purged_at = now()")
        await conn.execute("update seasons set epoch = 1001")
        assert (await http.delete(SEASON)).status_code == 200
        assert await _first(conn, "select min(epoch) from season_epochs") > 1
