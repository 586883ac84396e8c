"""The documentation in a real browser: search by keyboard, any width, light and dark."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.support.browser import CHROMIUM, PATIENCE_MS, launched_browser, screenshot
from tests.support.paths import REPOSITORY
from tests.support.server import Running

AXE = REPOSITORY / "tests" / "js" / "node_modules" / "axe-core" / "axe.min.js"
WRONG = "async () => (await axe.run()).violations.map(({id, nodes}) => `${id}: ${nodes[0].target.join(' ')}`)"

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
async def page(millrace: Running) -> AsyncIterator[Page]:
    """A page of the documentation; afterwards nothing was complained of, and nobody else was asked."""
    async with launched_browser() as browser:
        opened = await browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        asked: set[str] = set()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        await opened.goto(f"{millrace.url}/docs/")
        yield opened
        assert complaints == []
        assert asked == {urlsplit(millrace.url).netloc}


async def test_somebody_finds_a_setting_without_a_mouse(page: Page) -> None:
    await page.keyboard.press("/")
    await page.keyboard.type("handshake timeout")
    await expect(page.locator("#results mark").first).to_have_text("handshake")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowUp")
    await expect(page.locator("#query")).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("#results a").first).to_be_focused()
    await expect(page.locator("#results a").first).to_contain_text("Configuration")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/docs/configuration#configuration")
    await expect(page.locator("h1")).to_contain_text("Configuration")
    await expect(page.locator(".pages a[aria-current]")).to_have_text("Configuration")


async def test_a_search_that_finds_nothing_says_so_and_goes_away(page: Page) -> None:
    await page.fill("#query", "zyzzyva <b>")
    await expect(page.locator("#results")).to_have_text("Nothing is found for “zyzzyva <b>”.")
    await page.keyboard.press("Escape")
    await expect(page.locator("#results")).to_be_hidden()
    await expect(page.locator("#query")).to_have_value("")


async def test_code_is_copied_as_it_stands(page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.locator(".pages").get_by_role("link", name="Codex CLI").click()
    await expect(page.locator("h1")).to_contain_text("Codex CLI")
    await page.locator(".code").first.hover()
    await page.get_by_role("button", name="Copy").first.click()
    await expect(page.locator(".code button").first).to_have_text("Copied")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == recipe(REPOSITORY / "docs" / "codex.md")


async def test_it_fits_every_width_light_and_dark(page: Page) -> None:
    """No page is wider than its window, and axe-core, where it is installed, finds nothing wrong."""
    await page.goto(f"{page.url}configuration")
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        for width in (390, 1024, 1920):
            await page.set_viewport_size({"width": width, "height": 1000})
            await expect(page.locator("search")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            await screenshot(page, f"docs-{scheme}-{width}")
            if AXE.exists():
                await page.evaluate(AXE.read_text("utf-8") + ";0")  # as a debugger does, past the policy
                assert await page.evaluate(WRONG) == [], (scheme, width)


async def test_it_reads_without_scripts(millrace: Running) -> None:
    async with launched_browser() as browser:
        page = await browser.new_page(java_script_enabled=False)
        await page.goto(f"{millrace.url}/docs/keys")
        await expect(page.locator("h1")).to_have_text("Keys")
        await expect(page.locator("search")).to_be_hidden()
        await page.get_by_role("link", name="Guards").first.click()
        await expect(page.locator("h1")).to_have_text("Guards")


def recipe(file: Path) -> str:
    return file.read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
