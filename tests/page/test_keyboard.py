"""The playground and the dashboard by keyboard alone: each control is reached, is seen to be, and does its work."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import CHROMIUM, PATIENCE_MS
from tests.support.dashboard import figures_of
from tests.support.past_traffic import fill, over_days
from tests.support.server import Running, Start

MOST = 400  # stops of a page; more is a trap
MARK = """() => {
  const stops = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")]
    .filter((stop) => stop.checkVisibility() && !stop.disabled && stop.tabIndex >= 0)
    .filter((stop) => stop.type !== "radio" || stop.checked);
  stops.forEach((stop, number) => (stop.dataset.stop = number));
  return stops.map((stop) => stop.outerHTML.slice(0, 120));
}"""
LOOK = """() => {
  const stop = document.activeElement;
  if (!stop || stop === document.body) return null;
  const near = [stop, stop.parentElement, stop.nextElementSibling].filter(Boolean);
  const rings = near.map((part) => getComputedStyle(part));
  const box = stop.getBoundingClientRect();
  return {
    stop: stop.dataset.stop === undefined ? null : Number(stop.dataset.stop),
    html: stop.outerHTML.slice(0, 120),
    isRinged: rings.some(({ outlineStyle, outlineWidth }) => outlineStyle !== "none" && parseFloat(outlineWidth) >= 1),
    isInSight: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
async def past(start: Start, tmp_path: Path) -> AsyncIterator[Running]:
    """A server with some requests behind it."""
    fill(str(tmp_path), over_days(time.time(), 0.5, 30, tenant="anonymous"))

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)

    async with start(change) as running:
        yield running


async def walk(page: Page, key: str) -> list[int]:
    """Press Tab (or Shift+Tab) around the page, and return the numbers of its stops in the order they came."""
    found: list[int] = []
    for _ in range(MOST):
        await page.keyboard.press(key)
        at = await page.evaluate(LOOK)
        if at is None:
            continue  # the page was left, and is entered again at its other end
        assert at["isRinged"], f"the focus is not seen on {at['html']}"
        assert at["isInSight"], f"out of sight: {at['html']}"
        if at["stop"] is None:
            continue  # what scrolls
        if found and at["stop"] == found[0]:
            return found
        found.append(at["stop"])
    raise AssertionError("a trap")


async def walked_whole(page: Page) -> None:
    """Every control is a stop of Tab, once, and none is left out on the way back."""
    await page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    stops: list[str] = await page.evaluate(MARK)
    forward = await walk(page, "Tab")
    assert [stops[number] for number in sorted({*range(len(stops))} - {*forward})] == []
    assert len(forward) == len({*forward})
    assert {*await walk(page, "Shift+Tab")} == {*forward}


async def test_the_playground(browser: Browser, millrace: Running) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await page.focus("a.skip")
    await page.keyboard.press("Enter")
    await expect(page.locator("#question")).to_be_focused()
    await page.keyboard.type("What is a millrace? [tokens=40] [rate=40]")
    await page.focus("#ask")
    await page.keyboard.press("Space")
    await expect(page.locator("#stop")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#status")).to_have_attribute("data-status", "cancelled")
    await expect(page.locator("#ask")).to_be_focused()

    await page.focus("#mode-ask")
    await page.keyboard.press("ArrowRight")
    await page.keyboard.press("Enter")  # asks, as in each field of a form
    await expect(page.locator("#stop")).to_be_focused()
    await expect(page.locator("#ask")).to_be_focused()
    await page.focus("#anew")
    await page.keyboard.press("Enter")
    await expect(page.locator("#question")).to_be_focused()
    await page.focus("#delivery")
    await page.keyboard.press("End")
    await expect(page.locator("#delivery")).to_have_value("final")
    await expect(page.locator("#code")).to_contain_text('delivery="final"')
    await page.focus(".chip")
    await page.keyboard.press("Space")
    await expect(page.locator("#question")).to_be_focused()
    await expect(page.locator("#history tr")).to_have_count(3)
    await expect(page.locator("#ask")).to_be_enabled()
    await page.focus("#theme")
    await page.keyboard.press("End")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await walked_whole(page)
    await page.focus("#mode-chat")
    await page.keyboard.press("ArrowRight")
    await page.focus("#left-strategy")
    await page.keyboard.press("Home")
    await expect(page.locator("#code")).to_contain_text('strategy="auto"')
    await walked_whole(page)
    await page.close()


async def test_the_dashboard(browser: Browser, past: Running) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(f"{past.url}/dashboard/")
    await figures_of(page)
    await expect(page.locator("#link")).to_have_text("Live")
    await page.focus("#pause")
    await page.keyboard.press("Space")
    await expect(page.locator("#link")).to_have_text(re.compile("^Paused"))
    await expect(page.locator("#requests-table tbody tr")).to_have_count(30)
    await walked_whole(page)

    await page.focus("#range-24h")
    await page.keyboard.press("ArrowRight")
    await expect(page).to_have_url(re.compile(r"\?since=7d$"))
    await expect(page.locator("#reset")).to_be_visible()
    await page.focus("#reset")
    await page.keyboard.press("Enter")
    await expect(page.locator("#range-24h")).to_be_checked()
    await page.focus("#filter-status")
    await page.keyboard.type("comp")
    await expect(page).to_have_url(re.compile(r"status=completed$"))
    table = page.locator("section[aria-labelledby=chart-ttft]")
    await table.locator(".quiet").focus()
    await page.keyboard.press("Enter")
    await expect(table.locator(".data")).to_be_visible()

    opener = page.locator("#requests-table .open").nth(2)
    await opener.focus()
    await page.keyboard.press("Control+a")  # a text that is selected elsewhere hinders no button
    await page.keyboard.press("Space")
    await expect(page.locator("#story")).to_be_visible()
    await expect(page.locator("#story-body")).to_have_attribute("aria-busy", "false")
    await page.focus("#story-body summary")
    await page.keyboard.press("Enter")
    await expect(page.locator("#story-body pre")).to_be_visible()
    for _ in range(20):
        await page.keyboard.press("Tab")
        assert await page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('#story')"
        )
    await page.focus("#story-close")
    await page.keyboard.press("Enter")
    await expect(page.locator("#story")).to_be_hidden()
    await expect(opener).to_be_focused()
    await expect(page).not_to_have_url(re.compile("request="))
    await page.close()
