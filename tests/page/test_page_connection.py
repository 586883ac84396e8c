"""The page when its connection breaks, its server restarts, or a key is wanted; in a real browser."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, WebSocketRoute, expect

from millrace.simulator import EASY
from tests.support.browser import CHROMIUM, ask, expect_ended, longer_than, screenshot
from tests.support.keyed_server import keyed_server
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start

LONG = "Tell me a long story. [tokens=400] [rate=100]"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


async def test_a_dropped_connection_comes_back(browser: Browser, millrace: Running) -> None:
    page = await browser.new_page()
    routes: list[WebSocketRoute] = []

    async def through(route: WebSocketRoute) -> None:
        route.connect_to_server()
        routes.append(route)

    await page.route_web_socket("**/v1/responses", through)
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, LONG)
    await expect(page.locator("#answer")).to_have_text(longer_than(10))
    await routes[0].close(code=1012)
    await expect(page.locator("#status")).to_have_attribute("data-status", "lost")
    await expect(page.locator("#error")).to_contain_text("connection_lost")
    await expect(page.locator("#status")).to_contain_text("its cost is not known")
    for known in ("#tokens", "#cost", "#saved"):
        await expect(page.locator(known)).not_to_have_text("$0")
    await expect(page.locator("#history tr").first.locator("[data-name=Cost]")).to_have_text("–")
    await expect(page.locator("#link")).to_have_text("Connected")
    assert len(routes) == 2
    await ask(page, EASY[0])
    await expect_ended(page, "completed", "small")


async def test_a_connection_lost_while_nothing_runs_comes_back(browser: Browser, millrace: Running) -> None:
    """The page says so meanwhile; what is asked meanwhile is answered afterwards. It comes back again and again."""
    page = await browser.new_page()
    async with proxy_to(millrace.url) as proxy:
        await page.goto(proxy.url)
        await expect(page.locator("#link")).to_have_text("Connected")
        for question in (EASY[0], EASY[1]):
            proxy.target = None
            proxy.cut()
            await expect(page.locator("#link")).to_have_text("Connection lost; reconnecting…")
            await ask(page, question)
            proxy.target = millrace.url
            await expect_ended(page, "completed", "small")
            await expect(page.locator("#link")).to_have_text("Connected")
    await page.close()


@pytest.mark.parametrize("width", [360, 1280])
async def test_a_word_longer_than_any_line_is_wrapped(browser: Browser, millrace: Running, width: int) -> None:
    """In the question, in the answer, in what was taken back and among the past requests."""
    page = await browser.new_page(viewport={"width": width, "height": 800})
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    word = "x" * 2000
    await ask(page, f"Why is the sky dark at night? {word} [ttft.large=0.1] [rate.large=0]")
    await expect(page.locator("#status")).to_have_attribute("data-status", "completed")
    await page.evaluate(
        """word => {
          for (const id of ["answer", "revised", "error", "why", "status", "refusal", "tools", "reasoning"]) {
            const part = document.getElementById(id);
            part.hidden = false;
            part.append(word);
          }
          document.querySelector("#calls li span").append(word);
        }""",
        word,
    )
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    wide = await page.evaluate(
        "[...document.querySelectorAll('body *')].filter(one => !one.closest('svg, del') && one.offsetParent"
        " && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.id || one.className || one.tagName)"
    )
    assert wide == []
    await page.close()


async def test_a_restart_is_said_and_got_over(browser: Browser, start: Start) -> None:
    """The server says that it drains; what runs there ends there, and the next question goes to the new one."""
    page = await browser.new_page()
    async with proxy_to(None) as proxy, start() as after, AsyncExitStack() as stack:
        before = await stack.enter_async_context(start())
        proxy.target = before.url
        await page.goto(proxy.url)
        await expect(page.locator("#link")).to_have_text("Connected")
        await ask(page, "Tell me a long story. [tokens=60] [rate=60]")
        await expect(page.locator("#answer")).to_have_text(longer_than(10))
        proxy.target = None  # the process is on its way down, and the next is not up yet
        stopping = asyncio.create_task(stack.aclose())
        await expect(page.locator("#link")).to_have_text("Server restarts, reconnecting…")
        await screenshot(page, "restarting")
        await expect_ended(page, "completed", "small")
        proxy.target = after.url
        await expect(page.locator("#link")).to_have_text("Connected")
        await stopping
        await ask(page, EASY[0])
        await expect_ended(page, "completed", "small")
        assert (before.calls, after.calls) == (1, 1)
    await page.close()


async def test_a_key_is_asked_for_where_one_is_needed(browser: Browser, start: Start, tmp_path: Path) -> None:
    """It is traded for a ticket, outlives a reload, and stands in no address and in nothing that outlives the tab."""
    page = await browser.new_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    async with proxy_to(None) as proxy, keyed_server(start, tmp_path, proxy.url) as guarded:
        proxy.target = guarded.running.url
        await page.goto(proxy.url)
        await expect(page.locator("#link")).to_have_text("A key is needed")
        await expect(page.locator("#ask")).to_be_disabled()
        await page.fill("#key", "mr_not_a_key")
        await page.press("#key", "Enter")
        await expect(page.locator("#why-key")).to_have_text("The server does not take this key.")
        await screenshot(page, "locked")
        await page.fill("#key", guarded.key)
        await page.press("#key", "Enter")
        await expect(page.locator("#link")).to_have_text("Connected")
        await expect(page.locator("#key-form")).to_be_hidden()
        await ask(page, EASY[0])
        await expect_ended(page, "completed", "small")
        proxy.cut()
        await expect(page.locator("#link")).to_have_text("Connected")
        await page.reload()
        await expect(page.locator("#link")).to_have_text("Connected")
        await ask(page, EASY[0])
        await expect_ended(page, "completed", "cache")
        assert await page.evaluate("JSON.stringify(localStorage) + document.cookie") == "{}"
        assert not [address for address in addresses if guarded.key in address or "ticket." in address]
        await page.close()


async def test_a_page_of_an_origin_that_is_not_listed_says_so(browser: Browser, start: Start, tmp_path: Path) -> None:
    page = await browser.new_page()
    async with keyed_server(start, tmp_path) as guarded:
        await page.goto(guarded.running.url)
        await page.fill("#key", guarded.key)
        await page.press("#key", "Enter")
        await expect(page.locator("#error")).to_contain_text("[server] origins")
        await expect(page.locator("#key-form")).to_be_hidden()
        await page.close()
