"""Chromium, and what a user of the page does and sees."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.paths import REPOSITORY
from tests.support.waiting import PATIENCE_S

CHROMIUM = shutil.which("chromium")
SCREENSHOTS = REPOSITORY / "tests" / "screenshots"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 1000 * PATIENCE_S
expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def launched_browser() -> AsyncIterator[Browser]:
    """Open a browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


async def ask(page: Page, question: str, **choices: str) -> None:
    for name, choice in choices.items():
        await page.select_option(f"#{name}", choice)
    await page.fill("#question", question)
    await page.press("#question", "Enter")


async def expect_ended(page: Page, status: str, stage: str) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-status", status)
    await expect(page.locator("#stage")).to_have_attribute("data-stage", stage)
    await expect(page.locator("#ask")).to_be_enabled()


async def screenshot(page: Page, name: str) -> None:
    """Save a screenshot, if `MILLRACE_SCREENSHOTS=1` is set."""
    if os.environ.get("MILLRACE_SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        await page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
        await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


def longer_than(characters: int) -> re.Pattern[str]:
    return re.compile(rf"^.{{{characters},}}", re.DOTALL)
