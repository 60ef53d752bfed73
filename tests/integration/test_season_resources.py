"""Seasons as resources: what PUT sets, what GET says, which scores are taken and when."""

from __future__ import annotations

import asyncio
import datetime as dt
import json

import pytest
from conftest import client_of, serving
from season_calls import SEASON, post, put, top

from api.app import create_app
from shared import ledger
from shared.scores import MAX_SCORE, Score

HOUR = dt.timedelta(hours=1)


async def test_put_makes_a_season_and_get_says_what_it_is(http, drain):
    body = {
        "aggregation": "best",
        "order": "asc",
        "windows": True,
        "tieBreak": "earliest",
        "startsAt": "2026-01-01T00:00:00+01:00",
        "endsAt": "2126-01-01T00:00:00Z",
        "metadata": {"track": "Monza", "laps": [1, 2.5, None, "Zoë 🎮"]},
    }
    made = await put(http, 201, **body)
    created_at = dt.datetime.fromisoformat(made.pop("createdAt"))
    assert dt.timedelta(0) <= dt.datetime.now(dt.UTC) - created_at < HOUR
    assert made == {
        "seasonId": "race",
        "state": "open",
        "epoch": 1,
        "players": 0,
        **body,
        "startsAt": "2025-12-31T23:00:00Z",
        "closedAt": None,
        "changedAt": None,
        "resets": None,
        "nextReset": None,
        "previousReset": None,
        "rewards": None,
    }
    assert await put(http, 200, **body) == {**made, "createdAt": created_at.isoformat().replace("+00:00", "Z")}
    assert await post(http, score=5) == (202, None)
    await drain()
    found = (await http.get(SEASON)).json()
    assert (found["players"], found["epoch"], found["state"]) == (1, 1, "open")
    assert dt.datetime.fromisoformat(found["changedAt"]) >= created_at


async def test_what_put_leaves_out_is_as_by_default(http):
    await put(http, endsAt="2126-01-01T00:00:00Z", metadata={"a": 1})
    found = await put(http, 200)
    assert (found["aggregation"], found["order"], found["endsAt"], found["metadata"]) == ("sum", "desc", None, None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"aggregation": "worst"}, "invalid_body"),
        ({"order": "up"}, "invalid_body"),
        ({"unknown": 1}, "invalid_body"),
        ({"startsAt": "2026-01-01T00:00:00"}, "invalid_body"),
        ({"startsAt": "tomorrow"}, "invalid_body"),
        ({"startsAt": "1970-01-01T00:00:00+14:00"}, "invalid_times"),
        ({"endsAt": "9998-12-31T23:59:59-14:00"}, "invalid_times"),
        ({"metadata": []}, "invalid_body"),
        ({"metadata": "{}"}, "invalid_body"),
        ([], "invalid_body"),
        ({"startsAt": "2027-01-01T00:00:00Z", "endsAt": "2027-01-01T00:00:00Z"}, "invalid_times"),
        ({"startsAt": "0001-01-01T00:00:00+14:00"}, "invalid_times"),
        ({"endsAt": "9999-12-31T23:59:59-14:00"}, "invalid_times"),
        ({"metadata": {"text": "x" * 4086}}, "invalid_metadata"),
    ],
)
async def test_what_is_no_season_is_refused(http, body, code):
    response = await http.put(SEASON, json=body)
    assert (response.status_code, response.json()["code"]) == (400, code)
    assert (await http.get(SEASON)).status_code == 404


async def test_metadata_of_four_kibibytes_comes_back_as_it_was(http):
    metadata = {"text": "x" * 4085}
    assert len(json.dumps(metadata, separators=(",", ":"))) == 4096
    assert (await put(http, metadata=metadata))["metadata"] == metadata


async def test_metadata_is_kept_as_it_was_written(http):
    metadata = '{"price": 1.10, "big": 12345678901234567890.5, "e":1E2, "twice":1, "twice":2, "nul":"\\u0000"}'
    response = await http.put(SEASON, content=f'{{"metadata": {metadata}}}')
    assert f'"metadata":{metadata}' in response.text
    assert f'"metadata":{metadata}' in (await http.get(SEASON)).text
    assert (await put(http, metadata=None))["metadata"] is None


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/close")])
async def test_a_season_that_nobody_made_is_404(http, method, path):
    response = await http.request(method, f"{SEASON}{path}")
    assert (response.status_code, response.json()["code"]) == (404, "season_not_found")


async def test_the_list_goes_on_where_the_page_before_ended(http, add, drain):
    await add(*((f"s{number}", "ann", 1) for number in range(7)), ("s3", "bob", 1))
    await drain()
    seen, cursor = [], {}
    while cursor is not None:
        page = (await http.get("/v1/seasons", params={"limit": 3, **cursor})).json()
        seen += [(item["seasonId"], item["players"]) for item in page["items"]]
        cursor = None if page["nextCursor"] is None else {"cursor": page["nextCursor"]}
    assert seen == [(f"s{number}", 2 if number == 3 else 1) for number in range(7)]
    for wrong, code in (({"limit": 0}, "invalid_limit"), ({"cursor": "é"}, "invalid_cursor")):
        response = await http.get("/v1/seasons", params=wrong)
        assert (response.status_code, response.json()["code"]) == (400, code)


async def test_no_season_at_all_is_an_empty_page(http):
    assert (await http.get("/v1/seasons")).json() == {"items": [], "nextCursor": None}


async def test_a_first_score_makes_a_season_of_its_kind(http, drain, truth):
    assert await post(http, delta=5) == (202, None)
    assert await post(http, score=5) == (409, "wrong_aggregation")
    assert await post(http, path="/v1/seasons/best", score=0) == (202, None)
    assert await post(http, path="/v1/seasons/best", delta=5) == (409, "wrong_aggregation")
    await drain()
    assert await truth() == {"race": {"ann": 5}, "best": {"ann": 0}}
    assert (await http.get("/v1/seasons/best")).json()["aggregation"] == "best"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_body"),
        ({"delta": 1, "score": 1}, "invalid_body"),
        ({"score": None}, "invalid_body"),
        ({"score": 1.5}, "invalid_body"),
        ({"score": MAX_SCORE + 1}, "invalid_score"),
        ({"score": -MAX_SCORE - 1}, "invalid_score"),
        ({"score": 1, "epoch": 0}, "invalid_epoch"),
        ({"score": 1, "epoch": 2**31}, "invalid_epoch"),
    ],
)
async def test_a_malformed_score_is_refused(http, body, code):
    assert await post(http, **body) == (400, code)


async def test_scores_are_taken_between_start_and_end(http, drain):
    now = dt.datetime.now(dt.UTC)

    def moment(offset):
        return (now + offset).isoformat()

    await put(http, startsAt=moment(HOUR))
    assert (await http.get(SEASON)).json()["state"] == "scheduled"
    assert await post(http, delta=1) == (409, "season_not_started")
    await put(http, startsAt=moment(-HOUR), endsAt=moment(HOUR))
    assert (await http.get(SEASON)).json()["state"] == "open"
    assert await post(http, delta=1) == (202, None)
    await put(http, startsAt=moment(-2 * HOUR), endsAt=moment(-HOUR))
    assert (await http.get(SEASON)).json()["state"] == "closed"
    assert await post(http, delta=1) == (409, "season_closed")
    await drain()
    assert await top(http) == [("ann", 1)]


async def test_a_closed_season_keeps_its_standings_until_it_is_reset(http, drain):
    assert await post(http, delta=1) == (202, None)
    closed = (await http.post(f"{SEASON}/close")).json()
    assert closed["state"] == "closed"
    assert (await http.post(f"{SEASON}/close")).json()["closedAt"] == closed["closedAt"]
    assert await post(http, delta=1) == (409, "season_closed")
    await drain()  # what was accepted before counts
    assert await top(http) == [("ann", 1)]
    await put(http, metadata={"a": 1})  # is no reason to open it
    assert await post(http, delta=1) == (409, "season_closed")
    assert (await http.delete(SEASON)).status_code == 200
    found = (await http.get(SEASON)).json()
    assert (found["state"], found["epoch"], found["closedAt"]) == ("open", 2, None)
    assert await post(http, delta=1) == (202, None)


async def test_a_score_for_another_epoch_does_not_count(http, drain):
    assert await post(http, delta=1, epoch=1) == (202, None)
    assert (await http.delete(SEASON)).status_code == 200
    assert await post(http, delta=1, epoch=1) == (409, "epoch_mismatch")
    assert await post(http, delta=2, epoch=2) == (202, None)
    assert await post(http, delta=4) == (202, None)
    await drain()
    assert await top(http) == [("ann", 6)]


async def test_a_score_for_an_epoch_of_a_season_that_nobody_made(http):
    assert await post(http, delta=1, epoch=2) == (409, "epoch_mismatch")
    assert await post(http, delta=1, epoch=1) == (202, None)


async def test_a_refused_score_makes_no_season(http, drain, truth):
    assert await post(http, score=1, epoch=7) == (409, "epoch_mismatch")
    assert (await http.get(SEASON)).status_code == 404
    items = [{"userId": "ann", "score": 1, "epoch": 7}, {"userId": "ann", "delta": 5, "epoch": 1}]
    response = await http.post(f"{SEASON}/scores/batch", json=items)
    assert [result.get("code") for result in response.json()["results"]] == ["epoch_mismatch", None]
    assert await post(http, delta=1) == (202, None)
    await drain()
    assert await truth() == {"race": {"ann": 6}}


async def test_other_rules_begin_an_epoch_that_is_open(http):
    """As each one is: closing ends an epoch. The same rules leave it as it is."""
    await put(http)
    await http.post(f"{SEASON}/close")
    assert (await put(http, 200, metadata={"a": 1}))["state"] == "closed"
    found = await put(http, 200, order="asc")
    assert (found["state"], found["epoch"], found["closedAt"]) == ("open", 2, None)
    assert await post(http, delta=1) == (202, None)


async def test_why_an_epoch_takes_no_scores_is_told_whether_or_not_somebody_waits_for_its_end(http, pool):
    past, to_come = ((dt.datetime.now(dt.UTC) + hours * HOUR).isoformat() for hours in (-1, 1))

    async def current():
        item = (await http.get(f"{SEASON}/epochs")).json()["items"][0]
        return item["epoch"], item["reason"], item["endedAt"]

    await put(http)
    assert await current() == (1, None, None)
    began = (await http.get(f"{SEASON}/epochs")).json()["items"][0]["beganAt"]
    await put(http, endsAt=past)
    assert await current() == (1, "end", began)  # it began after that
    await put(http, endsAt=to_come)
    assert await current() == (1, None, None)
    await put(http, endsAt=past, order="asc")
    epoch, reason, ended = await current()
    assert (epoch, reason) == (2, "end")
    assert ended > began
    await put(http, order="asc")
    async with pool.connection() as conn:  # as a build before left it
        await conn.execute("update seasons set closed_at = created_at")
    assert await current() == (2, "close", ended)
    await http.post(f"{SEASON}/close")
    assert (await current())[:2] == (2, "close")


async def test_one_that_is_refused_costs_its_neighbours_nothing(http, drain, truth):
    """They share a statement."""
    await put(http, path="/v1/seasons/closed")
    await http.post("/v1/seasons/closed/close")
    sent = [
        post(http, f"u{number}", path=f"/v1/seasons/{season}", **body)
        for number in range(20)
        for season, body in (
            ("sum", {"delta": 1}),
            ("sum", {"delta": 1, "eventId": f"k{number}"}),
            ("closed", {"delta": 1}),
            ("closed", {"delta": 1, "eventId": f"k{number}"}),
            ("best", {"score": number}),
            ("best", {"score": number, "epoch": 7}),
        )
    ]
    answers = await asyncio.gather(*sent)
    expected = [(202, None), (202, None), (409, "season_closed"), (409, "season_closed"), (202, None)]
    assert answers == [*expected, (409, "epoch_mismatch")] * 20
    await drain()
    assert await truth() == {
        "sum": {f"u{number}": 2 for number in range(20)},
        "best": {f"u{number}": number for number in range(20)},
    }


async def test_a_score_that_was_stored_is_told_so_after_the_end_too(http):
    body = {"delta": 1, "eventId": "k"}
    assert await post(http, **body) == (202, None)
    await http.post(f"{SEASON}/close")
    response = await http.post(f"{SEASON}/scores", json={"userId": "ann", **body})
    assert (response.status_code, response.headers.get("idempotent-replayed")) == (202, "true")
    assert await post(http, delta=2, eventId="k") == (409, "season_closed")
    assert await post(http, delta=2, eventId="new") == (409, "season_closed")
    assert (await http.delete(SEASON)).status_code == 200
    assert await post(http, delta=2, eventId="new") == (202, None)  # refused, the key stood for nothing


async def test_a_score_with_the_key_of_a_delta_is_no_repetition(http):
    assert await post(http, delta=5, eventId="k") == (202, None)
    assert await post(http, score=5, eventId="k") == (409, "wrong_aggregation")
    assert await post(http, delta=5, eventId="k") == (202, None)


async def test_batches_take_what_single_scores_take(http, drain, truth):
    await put(http, aggregation="latest")
    items = [{"userId": "ann", "score": 0}, {"userId": "ann", "delta": 1}, {"userId": "bob", "score": 3, "epoch": 2}]
    response = await http.post(f"{SEASON}/scores/batch", json=items)
    assert response.status_code == 202
    codes = [result.get("code") for result in response.json()["results"]]
    assert codes == [None, "wrong_aggregation", "epoch_mismatch"]
    response = await http.post(f"{SEASON}/scores/batch", json=[{"userId": "bob", "score": n} for n in (7, 5)])
    assert response.json()["queued"] == 2
    await drain()
    assert await truth() == {"race": {"ann": 0, "bob": 5}}
    await http.post(f"{SEASON}/close")
    response = await http.post(f"{SEASON}/scores/batch", json=items[:1])
    assert (response.status_code, response.json()["code"]) == (409, "batch_refused")


async def test_aggregation_and_order_are_settled_by_the_first_score(http, drain):
    await put(http)
    found = await put(http, 200, aggregation="best", order="asc")
    assert (found["aggregation"], found["order"], found["epoch"]) == ("best", "asc", 2)
    assert await post(http, score=3) == (202, None)
    for body in ({"aggregation": "best", "order": "desc"}, {"aggregation": "latest", "order": "asc"}):
        assert (await put(http, 409, **body))["code"] == "season_has_scores"
    found = await put(http, 200, aggregation="best", order="asc", metadata={})
    assert (found["epoch"], found["metadata"]) == (2, {})
    await drain()
    assert (await http.delete(SEASON)).status_code == 200
    assert (await put(http, 200, aggregation="latest"))["epoch"] == 4
    assert await post(http, score=1) == (202, None)
    await drain()
    assert await top(http) == [("ann", 1)]


async def test_a_score_on_its_way_while_the_season_is_set_anew_counts_as_before_a_reset(http, pool, drain, truth):
    await put(http)
    async with pool.connection() as conn, conn.transaction():
        await ledger.append(conn, [Score("race", "ann", 5)])
        await put(http, 200, aggregation="best")
    assert await drain() == 1
    assert await truth() == {}
    assert await post(http, score=1) == (202, None)


async def test_without_postgres_it_is_503(settings):
    broken = settings.model_copy(update={"postgres_dsn": "postgresql://nobody@127.0.0.1:1/none"})
    async with serving(create_app(broken)) as base_url, client_of(base_url) as http:
        for response in (
            await http.get(SEASON),
            await http.get("/v1/seasons"),
            await http.put(SEASON, json={}),
            await http.post(f"{SEASON}/close"),
        ):
            assert (response.status_code, response.headers["retry-after"]) == (503, "1"), response.text
