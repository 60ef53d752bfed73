"""The seasons API of the wire contract, row by row, over real HTTP."""

from __future__ import annotations

SEASON = "/v1/seasons/spring-26"


async def post(http, user_id, delta, season=SEASON):
    response = await http.post(f"{season}/scores", json={"userId": user_id, "delta": delta})
    assert response.status_code == 202, response.text
    return response


async def test_a_score_is_queued_then_on_the_board(http, drain):
    response = await post(http, "ann", 5)
    assert response.json() == {"seasonId": "spring-26", "userId": "ann", "queued": True}
    assert await drain() == 1
    top = await http.get(f"{SEASON}/leaderboard/top")
    assert top.status_code == 200
    assert top.headers["content-type"] == "application/json"
    assert top.json() == {"seasonId": "spring-26", "items": [{"userId": "ann", "score": 5}]}
