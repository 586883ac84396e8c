"""The report of `millrace load` in a browser: everybody can read it, at every width."""

from typing import Literal

import pytest
from playwright.async_api import Browser

from millrace_client.load import page as load_page
from tests.client.test_load_page import measured
from tests.support.browser import CHROMIUM, screenshot
from tests.support.dashboard import AXE, overflow, violations

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


async def test_everybody_can_read_it(browser: Browser) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed; install it with: npm ci --prefix tests/js")
    page = await browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.set_content(load_page.as_html(measured("Millrace", "the bare upstream"), ["p99_ttft>1s: it is 2.1 s"]))
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        for width in (390, 1024, 1920):
            await page.set_viewport_size({"width": width, "height": 1000})
            assert await overflow(page) <= 0, width
            assert await violations(page) == [], (scheme, width)
            await screenshot(page, f"load-{scheme}-{width}")
    assert complaints == []
