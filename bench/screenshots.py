"""Pictures of the pages for docs/screenshots, renewed against a running service: `python -m bench.screenshots`.

The season shown is made for it, from the last year of the demo's events, with windows; it is deleted in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp
from playwright.async_api import Page, async_playwright

from cli.demo import EVENTS, Event, read_events
from cli.migrations import ROOT

FOLDER: Final = ROOT / "docs" / "screenshots"
_SEASON: Final = "autumn-2026"
_YEAR: Final = "2026"
_BEST: Final = 2**53 - 1
_BATCH: Final = 2000
_MOVES: Final = 7
_TURNS: Final = 80
"""Of half a second: so long a line of figures is drawn on the operators' page."""

_WIDE: Final = {"width": 1440, "height": 960}
_PHONE: Final = {"width": 390, "height": 844}
_FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")


async def take(base_url: str, key: str | None, folder: Path) -> None:
    """Write the pictures; the service must run, with a worker."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(base_url, headers=headers, raise_for_status=True) as session:
        players = await _fill(session)
        try:
            async with _browser() as new_page:
                opening = Opening(new_page, base_url, key)
                await _board(session, opening, folder, players)
                await _operations(session, opening, folder)
        finally:
            await session.delete(f"/v1/seasons/{_SEASON}")


async def _fill(session: aiohttp.ClientSession) -> list[str]:
    """The season with the year's events, the later half of them within the last day; returns its best players."""
    season = f"/v1/seasons/{_SEASON}"
    await session.delete(season)
    await session.put(season, json={"windows": True})
    events = [event for event in read_events(EVENTS) if event.season_id == _YEAR]
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=6)
    step = dt.timedelta(days=6) / len(events)
    numbered = enumerate(events)
    while batch := list(islice(numbered, _BATCH)):
        await session.post(f"{season}/scores/batch", json=[_score(event, start + step * n) for n, event in batch])
    await _settled(session)
    async with session.get(f"{season}/leaderboard/top?limit=10") as answer:
        return [item["userId"] for item in (await answer.json())["items"]]


def _score(event: Event, at: dt.datetime) -> dict[str, Any]:
    return {"userId": event.user_id, "delta": event.delta, "occurredAt": at.isoformat()}


async def _settled(session: aiohttp.ClientSession) -> None:
    while True:
        async with session.get("/v1/ops/outbox") as answer:
            if (await answer.json())["pending"] == 0:
                return
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _browser() -> AsyncIterator[Any]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield browser.new_page
        finally:
            await browser.close()


class Opening(NamedTuple):
    """How a page of the service is opened."""

    new_page: Any
    base_url: str
    key: str | None

    async def page(self, path: str, theme: str, **options: Any) -> Page:
        page: Page = await self.new_page(color_scheme=theme, **options)
        if self.key:
            await page.add_init_script(f"sessionStorage.setItem('leaderboard.key', {self.key!r})")
        await page.goto(f"{self.base_url}{path}")
        return page


async def _board(session: aiohttp.ClientSession, opening: Opening, folder: Path, players: list[str]) -> None:
    path = f"/?season={_SEASON}&user={players[5]}"
    opened = [
        ("board-light", await opening.page(path, "light", viewport=_WIDE)),
        ("board-dark", await opening.page(path, "dark", viewport=_WIDE)),
        ("big-screen", await opening.page(f"{path}&wall=1", "dark", viewport=_WIDE)),
        ("phone", await opening.page(path, "light", viewport=_PHONE, device_scale_factor=2)),
    ]
    for _, page in opened:
        await page.locator("#rows tr").nth(9).wait_for()
        await page.locator('#state[data-state="live"]').wait_for()
    for player in (players[6], players[8], players[3]):
        for _ in range(_MOVES):
            await session.post(f"/v1/seasons/{_SEASON}/scores", json={"userId": player, "delta": 137})
    await _settled(session)
    await asyncio.sleep(0.9)  # the rows have come to rest, the gains are still there
    for name, page in opened:
        await page.screenshot(path=folder / f"{name}.png")
        await page.close()


async def _operations(session: aiohttp.ClientSession, opening: Opening, folder: Path) -> None:
    page = await opening.page("/ops", "dark", viewport={"width": 1440, "height": 1180})
    full = f"/v1/seasons/{_SEASON}/scores"
    for player, delta in (("dev-full", _BEST), ("dev-full", 5), ("dev-full", 7)):
        await session.post(full, json={"userId": player, "delta": delta})
    for turn in range(_TURNS):
        some = [{"userId": f"dev-{number}", "delta": 1} for number in range(100 + 60 * (turn % 7) ** 2)]
        await session.post(f"{full}/batch", json=some)
        await asyncio.sleep(0.5)
    await page.locator("#verify").click()
    await page.get_by_text("ledger, standings and boards are equal").wait_for()
    await page.locator("#failed-rows tr").first.wait_for()
    await page.screenshot(path=folder / "ops.png")
    await page.close()
    await session.post("/v1/ops/failed/discard", json={"seasonId": _SEASON})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8080")
    parser.add_argument("--key", help="an admin key, where the service wants one")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(given.base_url, given.key, given.folder))


if __name__ == "__main__":
    main()
