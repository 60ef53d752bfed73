"""What tests ask of the season "race", or of another path."""

from __future__ import annotations

SEASON = "/v1/seasons/race"


async def put(http, status=None, path=SEASON, **body):
    response = await http.put(path, json=body)
    assert response.status_code == (status or response.status_code), response.text
    assert status is not None or response.status_code in (200, 201), response.text
    return response.json()


async def post(http, user_id="ann", path=SEASON, **body):
    response = await http.post(f"{path}/scores", json={"userId": user_id, **body})
    return response.status_code, response.json().get("code")


async def top(http, path=SEASON):
    response = await http.get(f"{path}/leaderboard/top")
    return [(item["userId"], item["score"]) for item in response.json()["items"]]
