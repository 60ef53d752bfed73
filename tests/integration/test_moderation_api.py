"""Moderation over HTTP: what is asked for, what is refused, and what the audit tells."""

from __future__ import annotations

import pytest

WHY = {"reason": "used a speed hack", "by": "dana"}
SEASON = "/v1/seasons/s"


@pytest.fixture
async def played(add, drain):
    await add(("s", "ann", 5), ("s", "ann", 2), ("s", "bob", 4))
    await drain()


@pytest.fixture
def event_of(pool):
    """The id of a player's first event."""

    async def find(user_id):
        async with pool.connection() as conn:
            cursor = await conn.execute("select min(id) from score_events where user_id = %s", (user_id,))
            return (await cursor.fetchone())[0]

    return find


async def top(http):
    response = await http.get(f"{SEASON}/leaderboard/top")
    return [(item["userId"], item["score"]) for item in response.json()["items"]]


@pytest.mark.usefixtures("played")
async def test_void_hide_unhide_and_erase(http, drain, event_of):
    event_id = await event_of("ann")
    response = await http.post(f"{SEASON}/events/{event_id}/void", json=WHY)
    asked = response.json()
    assert response.status_code == 202
    assert asked == {
        "seasonId": "s",
        "eventId": asked["eventId"],
        "action": "void",
        "userId": "ann",
        "queued": True,
        "target": str(event_id),
    }
    assert await top(http) == [("ann", 7), ("bob", 4)]
    await drain()
    assert await top(http) == [("bob", 4), ("ann", 2)]
    assert (await http.post(f"{SEASON}/users/bob/hide", json={"reason": "a rude name"})).status_code == 202
    await drain()
    assert await top(http) == [("ann", 2)]
    assert (await http.get(f"{SEASON}/leaderboard/rank?userId=bob")).status_code == 404
    assert (await http.post(f"{SEASON}/users/bob/unhide", json={"reason": "renamed"})).status_code == 202
    await drain()
    assert await top(http) == [("bob", 4), ("ann", 2)]
    response = await http.delete(f"{SEASON}/users/bob", params={"reason": "asked to be forgotten", "by": "dana"})
    assert (response.status_code, response.json()["action"]) == (202, "erase")
    await drain()
    assert await top(http) == [("ann", 2)]
    audit = (await http.get(f"{SEASON}/moderations")).json()
    assert audit["nextCursor"] is None
    told = [
        (item["action"], item["userId"], item["actor"], item["by"], item["reason"], item["state"], item["effect"])
        for item in audit["items"]
    ]
    nobody = "no key"
    assert told == [
        ("erase", None, nobody, "dana", "asked to be forgotten", "done", "erased, scores: 1"),
        ("unhide", None, nobody, None, "renamed", "done", "shown"),
        ("hide", None, nobody, None, "a rude name", "done", "hidden"),
        ("void", "ann", nobody, "dana", "used a speed hack", "done", "voided"),
    ]
    page = (await http.get(f"{SEASON}/moderations?limit=1")).json()
    assert page["items"] == audit["items"][:1]
    rest = (await http.get(f"{SEASON}/moderations?cursor={page['nextCursor']}")).json()
    assert rest["items"] == audit["items"][1:]


@pytest.mark.usefixtures("played")
async def test_what_is_asked_for_and_not_applied_yet_is_in_the_audit(http):
    await http.post(f"{SEASON}/users/ann/hide", json=WHY)
    (entry,) = (await http.get(f"{SEASON}/moderations")).json()["items"]
    assert (entry["state"], entry["effect"], entry["appliedAt"]) == ("pending", None, None)
    refused = await http.get("/v1/seasons/other/moderations")
    assert (refused.status_code, refused.json()["code"]) == (404, "season_not_found")


@pytest.mark.usefixtures("played")
async def test_a_voided_score_stays_voided_whatever_comes_later(http, drain, event_of):
    event_id = await event_of("ann")
    path = f"{SEASON}/events/{event_id}/void"
    for _ in range(2):  # both before the first one is applied
        assert (await http.post(path, json=WHY)).status_code == 202
    await drain()
    assert await top(http) == [("bob", 4), ("ann", 2)]
    refused = await http.post(path, json=WHY)
    assert (refused.status_code, refused.json()["code"]) == (409, "event_given_up")
    effects = [item["effect"] for item in (await http.get(f"{SEASON}/moderations")).json()["items"]]
    assert effects == ["none: it did not count", "voided"]


@pytest.mark.usefixtures("played")
async def test_what_is_of_an_epoch_that_is_over_stays(http, event_of):
    event_id = await event_of("ann")
    await http.delete(SEASON)
    refused = await http.post(f"{SEASON}/events/{event_id}/void", json=WHY)
    assert (refused.status_code, refused.json()["code"]) == (409, "epoch_over")


@pytest.mark.usefixtures("played")
async def test_what_is_refused(http):
    async def told(method, path, **sent):
        response = await http.request(method, path, **sent)
        return response.status_code, response.json()["code"]

    assert await told("POST", f"{SEASON}/events/999/void", json=WHY) == (404, "event_not_found")
    assert await told("POST", "/v1/seasons/none/events/1/void", json=WHY) == (404, "season_not_found")
    for event_id in ("0", "x", "9" * 19, "1" * 30):
        assert await told("POST", f"{SEASON}/events/{event_id}/void", json=WHY) == (400, "invalid_event_id")
    assert await told("POST", "/v1/seasons/none/users/ann/hide", json=WHY) == (404, "season_not_found")
    assert await told("POST", f"{SEASON}/users/{'x' * 129}/hide", json=WHY) == (400, "invalid_user_id")
    assert await told("POST", f"{SEASON}/users/%FF/hide", json=WHY) == (400, "invalid_user_id")
    assert await told("POST", f"{SEASON}/users/ann/hide", json={}) == (400, "invalid_body")
    assert await told("POST", f"{SEASON}/users/ann/hide", json={**WHY, "more": 1}) == (400, "invalid_body")
    for reason in ("", " ", "x" * 501, "a\nb"):
        assert await told("POST", f"{SEASON}/users/ann/hide", json={"reason": reason}) == (400, "invalid_reason")
        assert await told("DELETE", f"{SEASON}/users/ann", params={"reason": reason}) == (400, "invalid_reason")
    assert await told("POST", f"{SEASON}/users/ann/hide", json={**WHY, "by": ""}) == (400, "invalid_by")
    assert await told("DELETE", f"{SEASON}/users/ann") == (400, "invalid_reason")
    assert await told("DELETE", "/v1/seasons/none/users/ann?reason=x") == (404, "season_not_found")
    assert await told("GET", f"{SEASON}/users/ann") == (405, "method_not_allowed")
    assert await told("GET", f"{SEASON}/moderations?cursor=x") == (400, "invalid_cursor")


async def test_nothing_but_ids_is_encoded_in_a_path(http, add, drain, pool):
    await add(("s", "bob", 1))
    await drain()
    for method, path in (
        ("GET", "/v1/seasons/s/%75sers/bob/events"),
        ("POST", "/v1/seasons/s/%75sers/bob/hide"),
        ("POST", "/v1/seasons/s/users/bob/%68ide"),
        ("DELETE", "/v1/seasons/s%2Fusers%2Fbob?reason=r"),
    ):
        response = await http.request(method, path, json=WHY if method == "POST" else None)
        assert response.status_code == 400, path
    async with pool.connection() as conn:
        assert await (await conn.execute("select count(*) from moderations")).fetchone() == (0,)


async def test_any_player_is_named_by_the_path(http, add, drain, pool):
    names = ["a/hide", "hide", "Zoë", "a b", "users/x", "100%"]
    await add(*(("s", name, 1) for name in names))
    await drain()
    for name in names:
        path = "".join(f"%{byte:02X}" for byte in name.encode())
        response = await http.post(f"{SEASON}/users/{path}/hide", json=WHY)
        assert (response.status_code, response.json().get("userId")) == (202, name)
        response = await http.delete(f"{SEASON}/users/{path}?reason=x")
        assert (response.status_code, response.json().get("userId")) == (202, name)
    async with pool.connection() as conn:
        cursor = await conn.execute("select count(distinct user_id), count(*) from moderations")
        assert await cursor.fetchone() == (len(names), 2 * len(names))
