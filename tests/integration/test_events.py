"""What became of a score: by its eventId, and in its player's history."""

from __future__ import annotations

import datetime as dt

import pytest
from conftest import client_of, make_settings, serving
from season_calls import SEASON, put

from api.app import create_app
from shared import ledger
from shared.scores import Score
from shared.setbacks import discard

MOMENT = "2026-11-01T00:00:00Z"


async def send(http, user_id="ann", path=SEASON, **body):
    """The eventId of a score."""
    response = await http.post(f"{path}/scores", json={"userId": user_id, **body})
    assert response.status_code == 202, response.text
    return response.json()["eventId"]


async def event(http, event_id, path=SEASON):
    response = await http.get(f"{path}/events/{event_id}")
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


async def history(http, user_id="ann", path=SEASON, **query):
    response = await http.get(f"{path}/users/{user_id}/events", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def effects(http, user_id="ann"):
    """By eventId: the state and the effect of the player's scores."""
    return {item["eventId"]: (item["state"], item["effect"]) for item in (await history(http, user_id))["items"]}


async def test_an_event_is_pending_then_done(http, drain):
    await put(http, 201)
    event_id = await send(http, delta=25, occurredAt=MOMENT)
    found = await event(http, event_id)
    assert dt.datetime.fromisoformat(found.pop("createdAt")) <= dt.datetime.now(dt.UTC)
    told = {
        "seasonId": "race",
        "eventId": event_id,
        "userId": "ann",
        "type": "score",
        "delta": 25,
        "epoch": 1,
        "occurredAt": MOMENT,
    }
    assert found == {**told, "state": "pending", "effect": None}
    await drain()
    found = await event(http, event_id)
    assert found.pop("processedAt") >= found.pop("createdAt")
    assert found == {**told, "state": "done", "effect": "counted"}
    assert (await history(http))["items"] == [await event(http, event_id)]


async def test_an_event_is_found_after_it_left_the_outbox_and_in_whatever_epoch_it_was(http, pool, drain):
    """The ledger is asked then; it keeps epochs for a while."""
    await put(http, 201, aggregation="best")
    first = await send(http, score=7)
    await drain()
    assert (await http.delete(SEASON)).status_code == 200
    await put(http, 200, aggregation="sum")
    second = await send(http, delta=5)
    await drain()
    async with pool.connection() as conn:
        await conn.execute("delete from outbox")
    found = await event(http, first)
    assert {name: found[name] for name in ("score", "epoch", "state", "effect")} == {
        "score": 7,
        "epoch": 1,
        "state": "done",
        "effect": "ended",
    }
    assert "processedAt" not in found
    assert "delta" not in found
    found = await event(http, second)
    assert (found["delta"], found["state"], found["effect"]) == (5, "done", "counted")
    assert found["epoch"] > 1


async def test_what_is_no_event_of_the_season_is_not_found(http, drain):
    event_id = await send(http, delta=1)
    await send(http, path="/v1/seasons/other", delta=1)
    await drain()
    for path, wrong in ((SEASON, "999"), (SEASON, str(2**63 - 1)), ("/v1/seasons/other", event_id)):
        response = await http.get(f"{path}/events/{wrong}")
        assert (response.status_code, response.json()["code"]) == (404, "event_not_found")
    for wrong in ("0", "-1", "1.0", "k1", "", "%20", str(2**63), "9" * 40, "1%2F2"):
        response = await http.get(f"{SEASON}/events/{wrong}")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_event_id"), wrong
    response = await http.get(f"/v1/seasons/a%20b/events/{event_id}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_season_id")
    assert (await http.delete(f"{SEASON}/events/{event_id}")).status_code == 405


async def test_a_failed_event_says_why_and_may_be_discarded(http, pool, projection, drain):
    async with pool.connection() as conn:
        await conn.execute("alter table standings add check (score < 6)")
    await send(http, delta=5)
    event_id = await send(http, delta=1)
    await drain()
    found = await event(http, event_id)
    assert (found["state"], found["effect"]) == ("failed", None)
    assert "violates check constraint" in found["reason"]
    assert "\n" not in found["reason"]
    await discard(pool, projection, "race", [int(event_id)])
    found = await event(http, event_id)
    assert (found["state"], found["effect"]) == ("discarded", "discarded")
    assert "violates check constraint" in found["reason"]


async def test_the_ids_of_replayed_scores_are_the_first_ones(http):
    keyed = {"userId": "ann", "delta": 5, "eventId": "k1"}
    event_id = await send(http, delta=5, eventId="k1")
    assert await send(http, delta=5, eventId="k1") == event_id
    results = (await http.post(f"{SEASON}/scores/batch", json=[keyed, {**keyed, "eventId": "k2"}, keyed])).json()
    told = [(result["status"], result["eventId"]) for result in results["results"]]
    assert [status for status, _ in told] == ["replayed", "queued", "replayed"]
    assert told[0][1] == told[2][1] == event_id != told[1][1]
    again = (await http.post(f"{SEASON}/scores/batch", json=[{**keyed, "eventId": "k2"}])).json()["results"]
    assert again == [{"status": "replayed", "eventId": told[1][1]}]
    game = {"game_id": 7, "user_id": 1, "score": 5}
    first, second = [
        await http.post("/api/leaderboard/score", json=game, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert first.json()["event_id"] == second.json()["event_id"]
    assert (await event(http, first.json()["event_id"], "/v1/seasons/game:7"))["score"] == 5


async def test_each_score_of_a_statement_is_told_its_own_id_whoever_draws_ids_beside_it(pool):
    """What comes back names those that are out of line; here each second id is another's."""
    scores = [Score("s", f"u{number}", 1, f"k{number}" if number % 3 == 0 else None) for number in range(60)]
    async with pool.connection() as conn, conn.transaction(force_rollback=True):
        await ledger.create_seasons(conn, ["s"])
        await conn.execute("alter sequence score_events_id_seq increment 2")
        for given in (scores, [score._replace(key=None) for score in scores], [*scores[1:], Score("s", "new", 1)]):
            outcomes = await ledger.append(conn, given)
            rows = await (await conn.execute("select id, user_id from score_events")).fetchall()
            player_of = dict(rows)
            event_ids = [outcome if isinstance(outcome, int) else outcome.event_id for outcome in outcomes]
            assert [player_of[event_id] for event_id in event_ids] == [score.user_id for score in given]
            assert len(set(event_ids)) == len(given)


async def test_a_score_that_its_season_refuses_leaves_the_ids_of_the_others_right(pool):
    async with pool.connection() as conn:
        await ledger.create_seasons(conn, ["s"])
        given = [Score("s", "no", 1, epoch=9), Score("s", "ann", 1), Score("s", "no", 1, epoch=9), Score("s", "bob", 2)]
        outcomes = await ledger.append(conn, given)
        rows = await (await conn.execute("select id, user_id from outbox order by id")).fetchall()
    assert rows == [(outcomes[1], "ann"), (outcomes[3], "bob")]
    assert outcomes[0] == outcomes[2] == ledger.Refusal("epoch", 1)


@pytest.mark.parametrize(
    ("rules", "scores", "told"),
    [
        ({"aggregation": "sum"}, [5, 3], ["counted", "counted"]),
        ({"aggregation": "best"}, [5, 3, 9, 9], ["superseded", "superseded", "counted", "superseded"]),
        ({"aggregation": "best", "order": "asc", "windows": True, "tieBreak": "earliest"}, [5, 3, 9], None),
        ({"aggregation": "latest"}, [5, 3], ["superseded", "counted"]),
    ],
)
async def test_the_history_says_which_scores_count(http, drain, rules, scores, told):
    await put(http, 201, **rules)
    field = "delta" if rules["aggregation"] == "sum" else "score"
    event_ids = []
    for number in scores:
        event_ids.append(await send(http, **{field: number}))
        await drain()
    told = told or ["superseded", "counted", "superseded"]
    assert await effects(http) == {event_id: ("done", effect) for event_id, effect in zip(event_ids, told, strict=True)}
    items = (await history(http))["items"]
    assert [item[field] for item in items] == scores[::-1]
    assert (await http.delete(SEASON)).status_code == 200
    assert set((await effects(http)).values()) == {("done", "ended")}


async def test_the_history_comes_in_pages_newest_first_and_of_one_player_and_season(http, drain):
    strange = "a/users/b é%"
    ids = [await send(http, strange, delta=number + 1) for number in range(5)]
    await send(http, "bob", delta=1)
    await send(http, strange, path="/v1/seasons/other", delta=1)
    await drain()
    pages, cursor = [], ""
    while cursor is not None:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = await history(http, "a%2Fusers%2Fb%20%C3%A9%25", **query)
        assert (page["seasonId"], page["userId"]) == ("race", strange)
        pages.append([item["eventId"] for item in page["items"]])
        cursor = page["nextCursor"]
    assert pages == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    for user_id, path in (("nobody", SEASON), ("ann", "/v1/seasons/none")):
        page = await history(http, user_id, path)
        assert (page["items"], page["nextCursor"]) == ([], None)
    for query, code in (
        ({"limit": 0}, "invalid_limit"),
        ({"limit": 501}, "invalid_limit"),
        ({"cursor": "!"}, "invalid_cursor"),
        ({"cursor": ids[0]}, "invalid_cursor"),
    ):
        response = await http.get(f"{SEASON}/users/ann/events", params=query)
        assert (response.status_code, response.json()["code"]) == (400, code), query
    for user_id in ("", "x" * 129, "%00", "%FF"):
        response = await http.get(f"{SEASON}/users/{user_id}/events")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_user_id"), user_id
    response = await http.get("/v1/seasons/a%20b/users/ann/events")
    assert (response.status_code, response.json()["code"]) == (400, "invalid_season_id")


async def test_what_operators_did_is_found_by_its_id_too(http, pool, drain):
    """As the worker leaves it; an erased player's id is told by nothing."""
    first, second = await send(http, delta=1), await send(http, "bob", delta=2)
    await drain()
    async with pool.connection() as conn:
        await conn.execute("update score_events set voided_at = now() where id = %s", (first,))
        for number, (action, user_id, target, status) in enumerate(
            [("void", "ann", first, "done"), ("hide", "bob", None, "pending"), ("erase", "bob", None, "done")]
        ):
            await conn.execute(
                "insert into moderations (id, season_id, action, user_id, event_id, actor, reason)"
                " values (%s, 'race', %s, %s, %s, 'k', 'cheats')",
                (1000 + number, action, user_id, target),
            )
            await conn.execute(
                "insert into outbox (id, event_type, season_id, epoch, user_id, delta, status, target)"
                " values (%s, %s, 'race', 1, %s, 0, %s, %s)",
                (1000 + number, action, user_id, status, target),
            )
    found = await event(http, first)
    assert (found["state"], found["effect"], found.get("reason")) == ("voided", "voided", None)
    assert await effects(http) == {first: ("voided", "voided")}
    assert await effects(http, "bob") == {second: ("done", "counted")}
    void, hide, erase = [await event(http, 1000 + number) for number in range(3)]
    assert (void["type"], void["target"], void["userId"], void["state"]) == ("void", first, "ann", "done")
    assert (hide["type"], hide["userId"], hide["state"]) == ("hide", None, "pending")
    assert (erase["type"], erase["userId"], erase["state"], erase["epoch"]) == ("erase", None, "done", 1)
    assert all(name not in void for name in ("delta", "score"))
    async with pool.connection() as conn:
        await conn.execute("delete from outbox where id >= 1000")
    for number, action in enumerate(("void", "hide", "erase")):
        found = await event(http, 1000 + number)
        assert (found["type"], found["state"], found["epoch"]) == (action, "done", None)
    assert (await event(http, 1002))["userId"] is None


async def test_a_key_is_asked_for_where_reading_needs_one(settings, servers):
    keyed = make_settings(settings.postgres_dsn, servers.redis_url, admin_key="x" * 24, read_access="keyed")
    async with serving(create_app(keyed)) as base_url, client_of(base_url) as http:
        for path in (f"{SEASON}/events/1", f"{SEASON}/users/ann/events"):
            assert (await http.get(path)).status_code == 401
