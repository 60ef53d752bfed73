"""Web pages of other origins: none may call, but for those that are named."""

from __future__ import annotations

import pytest
from conftest import client_of, serving

from api.app import create_app

PAGE = "https://game.example"
TOP = "/v1/seasons/s/leaderboard/top"
ASKED = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture
async def api(settings):
    named = settings.model_copy(update={"cors_origins": f"{PAGE}, http://localhost:5173"})
    async with serving(create_app(named)) as url, client_of(url) as client:
        yield client


async def test_nobody_may_as_long_as_none_is_named(http):
    for response in (await http.get(TOP, headers={"Origin": PAGE}), await http.options(TOP, headers=ASKED)):
        assert "access-control-allow-origin" not in response.headers


async def test_a_page_that_is_named_may_call_and_read_what_it_needs(api):
    asked = await api.options("/v1/seasons/s/scores", headers=ASKED)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in asked.headers["access-control-allow-headers"].lower()
    assert {"POST", "PUT", "DELETE"} <= set(asked.headers["access-control-allow-methods"].split(", "))
    for _ in range(2):  # the second one is kept
        response = await api.get(TOP, headers={"Origin": PAGE})
        assert response.headers["access-control-allow-origin"] == PAGE
        assert "Origin" in response.headers["vary"]
        assert {"ETag", "Retry-After", "RateLimit"} <= set(
            response.headers["access-control-expose-headers"].split(", ")
        )
        assert response.json()["items"] == []
    score = await api.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 1}, headers={"Origin": PAGE})
    assert (score.status_code, score.headers["access-control-allow-origin"]) == (202, PAGE)
    wrong = await api.post("/v1/seasons/s/scores", json={"userId": "ann", "delta": 0}, headers={"Origin": PAGE})
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (400, PAGE)


async def test_another_page_may_not_and_who_is_no_page_is_served_as_ever(api):
    other = {**ASKED, "Origin": "https://evil.example"}
    asked = await api.options("/v1/seasons/s/scores", headers=other)
    assert asked.status_code == 400
    response = await api.get(TOP, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in response.headers
    plain = await api.get(TOP)
    assert plain.status_code == 200
    assert "access-control-allow-origin" not in plain.headers


async def test_no_answer_is_taken_for_something_else_than_it_says(http, connect):
    responses = [
        await http.get(TOP),
        await http.get(TOP, headers={"If-None-Match": "*"}),
        await http.get("/nothing"),
        await http.post("/v1/seasons/s/scores", json={}),
        await http.get("/docs"),
    ]
    for response in responses:
        assert response.headers["x-content-type-options"] == "nosniff"
    connection = await connect()
    connection.send(b"rubbish\r\n\r\n")
    _, headers = await connection.head()
    assert headers["x-content-type-options"] == "nosniff"
