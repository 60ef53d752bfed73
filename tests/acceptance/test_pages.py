"""The pages in a real browser, beside the real service and its worker: what people see, and what they never may."""

from __future__ import annotations

import contextlib
from pathlib import Path

from axe_playwright_python.async_playwright import Axe
from browser import browser, needs_browser
from conftest import client_of, make_settings, serving
from own_worker import working
from playwright.async_api import expect

from api.app import create_app
from api.pages_site import routes
from shared import keys
from shared.scores import MAX_SCORE

HOSTILE = '<img src=x onerror="document.title=1">'
KEY = "an-admin-key-for-this-test-alone"
BEARER = {"Authorization": f"Bearer {KEY}"}
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


class Site:
    """A running service with its worker, and tabs of a browser that must stay without complaints."""

    def __init__(self, base_url, http, opened):
        self.base_url = base_url
        self.http = http
        self.opened = opened
        self.wrong = []

    async def tab(self, path, *, expected=(), **options):
        """A tab at that path; `expected`: statuses that the browser may complain about."""
        page = await self.opened.new_page(**{"viewport": WIDE, **options})
        told = tuple(f"status of {status}" for status in expected)

        def hear(message):
            if message.type in ("error", "warning") and not any(text in message.text for text in told):
                self.wrong.append(message.text)

        def see(request):
            if not request.url.startswith(self.base_url):
                self.wrong.append(f"asks elsewhere: {request.url}")

        page.on("console", hear)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", see)
        await page.goto(f"{self.base_url}{path}")
        return page

    async def score(self, season_id, user_id, delta):
        body = {"userId": user_id, "delta": delta}
        answer = await self.http.post(f"/v1/seasons/{season_id}/scores", json=body)
        assert answer.status_code == 202, answer.text


@contextlib.asynccontextmanager
async def site(settings, headers=None):
    async with (
        serving(create_app(settings)) as base_url,
        client_of(base_url) as http,
        browser() as opened,
        working(settings),
    ):
        http.headers.update(headers or {})
        found = Site(base_url, http, opened)
        yield found
        for context in opened.contexts:
            await context.close()
    assert found.wrong == []


async def fits(page):
    """Whether nothing is wider than the screen."""
    return await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


async def accessible(page):
    """What axe finds against WCAG 2.2 AA, as text; empty where nothing."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = await Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    return "" if found.violations_count == 0 else found.generate_report()


async def test_each_file_is_there_and_guarded(http):
    for route in routes():
        found = await http.get(route.path)
        assert found.status_code == 200
        assert "default-src 'self'" in found.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in found.headers["content-security-policy"]
        assert found.headers["referrer-policy"] == "no-referrer"
        again = await http.get(route.path, headers={"If-None-Match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_no_page_holds_scripts_or_styles_of_its_own():
    folder = Path(create_app.__code__.co_filename).parent / "pages"
    for page in folder.glob("*.html"):
        text = page.read_text()
        assert "style=" not in text
        assert "<style" not in text
        assert "<script>" not in text
        assert "onclick" not in text
    for script in folder.glob("*.js"):
        text = script.read_text()
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text


@needs_browser
async def test_a_board_live(settings):
    async with site(settings) as found:
        await found.http.put("/v1/seasons/cup", json={"windows": True})
        old = {"userId": "cid", "delta": 7, "occurredAt": "2026-01-01T00:00:00Z"}
        assert (await found.http.post("/v1/seasons/cup/scores", json=old)).status_code == 202
        for user_id, delta in (("ann", 10), ("bob", 5), (HOSTILE, 1)):
            await found.score("cup", user_id, delta)
        page = await found.tab("/", expected=(404,))  # who is not on the board
        rows = page.locator("#rows tr")
        await expect(page.locator("h1")).to_have_text("cup")
        await expect(page.locator("#state")).to_have_text("Live")
        await expect(rows.locator(".name")).to_have_text(["ann", "cid", "bob", HOSTILE])
        await expect(page.locator("#total")).to_have_text("4")

        await found.score("cup", "bob", 10)
        await expect(rows.locator(".name")).to_have_text(["bob", "ann", "cid", HOSTILE])
        await expect(rows.nth(0).locator(".move")).to_have_text("▲2up 2 places")
        await expect(rows.nth(1).locator(".move")).to_have_text("▼1down 1 place")
        await expect(rows.nth(0).locator(".gain")).to_have_text("+10")
        await expect(page.locator("#announcement")).to_contain_text("bob is 1 with 15")

        await page.locator("#player-id").fill("cid")
        await page.locator("#player-id").press("Enter")
        await expect(page.locator("#player-rank")).to_have_text("3")
        await expect(page.locator("#around th")).to_have_text(["bob", "ann", "cid", HOSTILE])
        await found.score("cup", "cid", 100)
        await expect(page.locator("#player-rank")).to_have_text("1")
        await expect(page.locator("#around th")).to_have_text(["cid", "bob", "ann", HOSTILE])
        await rows.nth(3).locator(".name").click()
        await expect(page.locator("#player-name")).to_have_text(HOSTILE)

        await page.get_by_label("24 h").check()
        await expect(page).to_have_url(
            f"{found.base_url}/?season=cup&window=24h&user=%3Cimg+src%3Dx+onerror%3D%22document.title%3D1%22%3E"
        )
        await expect(rows.locator(".points")).to_have_text(["100", "15", "10", "1"])
        await page.locator("#player-id").fill("nobody")
        await page.get_by_role("button", name="Find").click()
        await expect(page.locator("#player-note")).to_have_text("Not on this board.")

        await found.score("other", "eve", 1)
        await page.reload()
        await page.locator("#season-search").fill("oth")
        await page.locator('#seasons button[data-season="other"]').click()
        await expect(rows.locator(".name")).to_have_text(["eve"])
        await expect(page.locator("#windows")).to_be_hidden()
        assert "cup" not in await page.title()


@needs_browser
async def test_for_everybody(settings):
    """By keyboard alone, on a phone, in both themes, without motion, on a wall."""
    async with site(settings) as found:
        long = "a-player-with-a-name-" * 6
        for number, user_id in enumerate(("ann", "bob", long, HOSTILE)):
            await found.score("cup", user_id, 1000**4 + number)
        page = await found.tab("/?season=cup", color_scheme="light", reduced_motion="reduce")
        await page.locator("#rows tr").nth(3).wait_for()
        assert await page.evaluate("document.documentElement.dataset.theme") == "light"
        assert await accessible(page) == ""
        await page.get_by_role("button", name="Dark").click()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert await accessible(page) == ""
        await page.reload()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"

        await page.locator("#rows tr").nth(3).wait_for()
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the board")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.locator("#limit")).to_be_focused()
        await page.keyboard.press("Tab")
        await expect(page.locator("#rows .name").first).to_be_focused()
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.evaluate(outline) == "solid"
        await page.keyboard.press("Enter")
        await expect(page.locator("#player-rank")).to_have_text("1")
        await page.keyboard.press("/")
        await page.keyboard.press("ControlOrMeta+a")
        await page.keyboard.type("ann")
        await page.keyboard.press("Enter")
        await expect(page.locator("#player-rank")).to_have_text("4")
        await page.locator("#wall").press("w")
        await expect(page.locator(".bar")).to_be_hidden()
        await page.keyboard.press("Escape")
        await expect(page.locator(".bar")).to_be_visible()

        for path in ("/?season=cup&user=ann", "/ops"):
            phone = await found.tab(path, viewport=PHONE, is_mobile=True, has_touch=True)
            await phone.locator("#rows tr, #sessions tr").first.wait_for()
            assert await fits(phone)
            assert await accessible(phone) == ""


@needs_browser
async def test_without_a_stream_the_board_is_asked_for_and_keys_where_reading_needs_one(dsn, servers, redis):  # noqa: ARG001
    settings = make_settings(dsn, servers.redis_url, admin_key=KEY, read_access="keyed", streams_max=0)
    async with site(settings, BEARER) as found:
        await found.score("cup", "ann", 1)
        page = await found.tab("/", expected=(401, 503))
        await expect(page.locator("#key-told")).to_contain_text("this needs a key")
        await page.locator("#key").fill("wrong")
        await page.locator("#key").press("Enter")
        await expect(page.locator("#key-told")).to_contain_text("That key does not do")
        await page.locator("#key").fill(KEY)
        await page.get_by_role("button", name="Use key").click()
        await expect(page.locator("#rows .name")).to_have_text(["ann"])
        await expect(page.locator("#key-panel")).to_be_hidden()
        await expect(page.locator("#state")).to_have_text("Live, once a second")
        await found.score("cup", "bob", 2)
        await expect(page.locator("#rows .name")).to_have_text(["bob", "ann"])
        assert await page.evaluate("sessionStorage.length + ' ' + localStorage.length") == "1 0"


@needs_browser
async def test_operations_on_failed_events(dsn, servers, redis):  # noqa: ARG001 - emptied before
    settings = make_settings(dsn, servers.redis_url, admin_key=KEY)
    async with site(settings, BEARER) as found:
        await found.score("cup", "ann", MAX_SCORE)
        for delta in (1, 2, 3):
            await found.score("cup", "ann", delta)
        await found.score("cup", HOSTILE, MAX_SCORE)
        await found.score("cup", HOSTILE, 4)
        page = await found.tab("/ops", expected=(401,))
        await page.locator("#key").fill("not the key")
        await page.locator("#key").press("Enter")
        await expect(page.locator("#key-told")).to_contain_text("That key does not do")
        await expect(page.locator("#figures")).to_be_hidden()
        await page.locator("#key").fill(KEY)
        await page.locator("#key").press("Enter")
        await expect(page.locator("#failed-count")).to_have_text("4")
        await expect(page.locator("#ready")).to_have_text("Yes")
        await expect(page.locator("#sessions th")).to_contain_text(["api", "ops", "worker"])
        failed = page.locator("#failed-rows tr")
        await expect(failed.locator(".who")).to_have_text([HOSTILE, "ann", "ann", "ann"])
        assert await accessible(page) == ""

        await failed.nth(0).get_by_role("button", name="Retry").click()
        await expect(page.locator("#failed-told")).to_have_text("1 event sent back to pending.")
        await expect(failed.nth(0).locator("td").nth(4)).to_have_text("2")  # it failed again
        await failed.nth(1).get_by_role("checkbox").check()
        await page.get_by_role("button", name="Discard selected").click()
        await expect(page.locator("#confirm-heading")).to_have_text("Give up 1 event for good?")
        assert await accessible(page) == ""
        await page.get_by_role("button", name="Cancel").click()
        await expect(failed).to_have_count(4)
        await page.get_by_role("button", name="Discard selected").click()
        await page.locator("#confirm-yes").click()
        await expect(page.locator("#failed-told")).to_have_text("1 event discarded.")
        await expect(failed).to_have_count(3)
        await page.locator("#failed-season").select_option("cup")
        await page.get_by_role("button", name="Discard all of season").click()
        await page.locator("#confirm-yes").click()
        await expect(page.locator("#failed-told")).to_have_text("3 events discarded.")
        await expect(page.locator("#failed-none")).to_be_visible()
        await expect(page.locator("#failed-count")).to_have_text("0")


@needs_browser
async def test_operations_on_boards(settings, redis):
    async with site(settings) as found:
        await found.score("cup", "ann", 3)
        await found.score("cup", "bob", 2)
        page = await found.tab("/ops")
        await page.locator("#sessions tr").first.wait_for()
        await found.score("other", "eve", 1)
        await page.locator("#verify").click()
        await expect(page.locator("#work-told")).to_have_text(
            "2 seasons, 3 players: ledger, standings and boards are equal."
        )
        await expect(page.locator("#work-results .verdict")).to_have_text(["equal", "equal"])
        await page.locator("#work-choice summary").click()
        await page.locator("#work-seasons").get_by_label("cup").check()
        await page.locator("#repair").check()
        await redis.zadd(keys.board("cup"), {"ann": 7})
        await page.locator("#verify").click()
        await expect(page.locator("#work-results .verdict")).to_have_text(["repaired"])
        await expect(page.locator("#work-results .details")).to_contain_text("board wrong: ann, standing 3, board 7")
        await page.locator("#rebuild").click()
        await page.locator("#confirm-yes").click()
        await expect(page.locator("#work-told")).to_have_text("Built anew: 1 season, 2 players.")
