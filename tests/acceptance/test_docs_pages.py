"""The pages to read the API on: complete, from the package alone, and working in a real browser."""

from __future__ import annotations

import re

import pytest
from browser import browser, needs_browser
from conftest import serving

from api.app import create_app
from api.docs_pages import routes
from api.openapi import document
from leaderboard_client import Leaderboard, Rules

PAGES = ("/docs", "/swagger/index.html")


async def test_each_file_is_there_with_its_type_and_comes_once(http):
    for route in routes():
        found = await http.get(route.path)
        assert found.status_code == 200
        assert found.headers["content-type"].partition(";")[0] in (
            "text/html",
            "text/css",
            "text/javascript",
            "image/png",
        )
        assert found.headers["x-request-id"]
        again = await http.get(route.path, headers={"If-None-Match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_page_asks_for_nothing_that_is_not_served(http):
    served = {route.path for route in routes()} | {"/openapi.json"}
    for page in PAGES:
        asked = re.findall(r'(?:src|href)="([^"]+)"', (await http.get(page)).text)
        assert asked
        assert set(asked) <= served
    assert (await http.post("/docs")).status_code == 405
    assert (await http.get("/docs/none.js")).status_code == 404


@needs_browser
@pytest.mark.parametrize("page_path", PAGES)
async def test_in_a_browser_it_shows_every_operation_and_tries_one_out(settings, page_path):
    async with (
        serving(create_app(settings)) as base_url,
        Leaderboard(base_url) as board,
        browser() as opened,
    ):
        await board.put_season("spring-26", Rules(metadata={"seen": "in a browser"}))
        page = await opened.new_page()
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        await page.goto(f"{base_url}{page_path}")
        operations = page.locator(".opblock")
        await operations.first.wait_for()
        assert await operations.count() == sum(len(item) for item in document()["paths"].values())
        await page.locator("#operations-Seasons-season .opblock-summary-control").click()
        await page.locator("#operations-Seasons-season button.execute").click()
        answered = page.locator("#operations-Seasons-season .live-responses-table")
        await answered.wait_for()
        assert "in a browser" in await answered.inner_text()
        assert [url for url in asked if not url.startswith((base_url, "data:"))] == []
        assert wrong == []
