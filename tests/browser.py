"""A real Chromium, where there is one: pages are looked at as people see them."""

from __future__ import annotations

import contextlib
import shutil

import pytest
from playwright.async_api import async_playwright

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on this machine")


@contextlib.asynccontextmanager
async def browser():
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            yield opened
        finally:
            await opened.close()
