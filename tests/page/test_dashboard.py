"""The dashboard in a real browser, against a whole server with a past in its ledger."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, Route, WebSocketRoute, expect

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from tests.support.browser import CHROMIUM, PATIENCE_MS, screenshot
from tests.support.dashboard import AXE, asked, figures_of, overflow, violations
from tests.support.past_traffic import fill, over_days
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start
from tests.support.waiting import until

FIGURES = "**/v1/dashboard/figures*"
WIDTHS = (390, 1024, 1920)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
async def past(start: Start, tmp_path: Path) -> AsyncIterator[Running]:
    """A server with a day of requests behind it."""
    fill(str(tmp_path), over_days(time.time(), 1.0, 300, tenant="anonymous"))

    def change(configuration: dict[str, Any]) -> None:
        configuration["server"]["data_dir"] = str(tmp_path)
        configuration["limits"] = {"tenant": {"dollars_per_day": "60"}}

    async with start(change) as running:
        yield running


async def opened(browser: Browser, url: str, query: str = "", **options: Any) -> tuple[Page, list[str]]:
    """Open the dashboard, and wait for its figures. Returns what it complains of, and whom else it asks, too."""
    page = await browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
    page.set_default_timeout(PATIENCE_MS)
    here, complaints = urlsplit(url).netloc, list[str]()

    def look(asked: str) -> None:
        if urlsplit(asked).netloc != here:
            complaints.append(asked)

    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: look(request.url))
    page.on("websocket", lambda socket: look(socket.url))
    await page.goto(f"{url}/dashboard/{query}")
    await figures_of(page)
    return page, complaints


async def figures(url: str, query: str = "since=24h") -> dict[str, Any]:
    async with aiohttp.ClientSession(url) as http, http.get(f"/v1/dashboard/figures?{query}") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def test_it_shows_what_the_server_says_and_goes_on_by_itself(browser: Browser, past: Running) -> None:
    page, complaints = await opened(browser, past.url)
    total = (await figures(past.url))["total"]
    await expect(page.locator("#requests")).to_have_text(str(total["requests"]))
    saved = await page.locator("#saved").text_content() or ""
    assert float(saved.removeprefix("$")) == pytest.approx(float(total["saved_usd"]), rel=0.02)
    await expect(page.locator("#waterfall tr[data-key=routing] [data-name=Dollars] .text")).to_have_text(
        re.compile(r"^−\$\d")
    )
    await expect(page.locator("#waterfall tr[data-key=revised] .bar")).to_have_attribute("data-tone", "waste")
    await expect(page.locator("#card-budgets tbody tr")).to_have_count(1)
    await expect(page.locator("#card-deployments tbody tr")).to_have_count(2)
    await expect(page.locator("#card-promises tbody tr").first).to_contain_text("Wrong cache hits")
    await expect(page.locator("#requests-table tbody tr")).to_have_count(50)
    await expect(page.locator("#link")).to_have_text("Live")
    await screenshot(page, "dashboard")

    (new,) = await asked(past.url, "What is a millrace?")
    await expect(page.locator("#requests-table tbody tr").first).to_have_attribute("data-key", new)
    await expect(page.locator("#requests")).to_have_text(str(total["requests"] + 1))
    await page.click("#older")
    await expect(page.locator("#requests-table tbody tr")).to_have_count(101)
    assert complaints == []


async def test_one_request_is_told_from_a_row_and_from_a_point_and_has_an_address(
    browser: Browser, past: Running
) -> None:
    """By keyboard alone, as everything: a row, a point of a chart, and the way back to where one was."""
    (asked_id,) = await asked(past.url, "Why is the sky dark at night?")
    page, complaints = await opened(browser, past.url)
    dialog = page.locator("#story")
    await page.locator(f"tr[data-key={asked_id}] .open").focus()
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    await expect(page.locator("#story-sentence")).to_have_text(
        re.compile(r"^Large model answered in .+ It cost \$0\.\d+")
    )
    await expect(dialog.locator(".stages tr[data-key=small] .text[data-badge]")).to_have_text("taken back")
    await expect(dialog.locator(".calls tbody tr")).to_have_count(2)
    assert f"request={asked_id}" in page.url
    if AXE.exists():
        assert await violations(page) == []
    await screenshot(page, "dashboard-story")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(page).not_to_have_url(re.compile("request="))
    await expect(page.locator(f"tr[data-key={asked_id}] .open")).to_be_focused()
    await page.go_forward()  # closing it was going back, so that Back does not open it again
    await expect(dialog).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page).not_to_have_url(re.compile("request="))

    chart = page.locator("section[aria-labelledby=chart-total] .plot")
    await chart.focus()
    await page.keyboard.press("End")
    for _ in range(20):  # some steps have no request to tell of
        await page.keyboard.press("ArrowLeft")
        if re.search(r"p50 \d", await chart.get_attribute("aria-valuetext") or ""):
            break
    await expect(chart).to_have_attribute("aria-valuetext", re.compile(r"p50 \d.*, p95 .+, p99 .+"))
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()
    assert complaints == []
    other, complaints = await opened(browser, past.url, f"?{urlsplit(page.url).query}")
    await expect(other.locator("#story")).to_be_visible()
    await expect(other.locator(".stages tbody tr")).to_have_count(9)
    assert complaints == []


async def test_filters_are_kept_in_the_address(browser: Browser, past: Running) -> None:
    page, complaints = await opened(browser, past.url)
    await page.locator("#card-tags tr[data-key=shop] .open").click()
    await expect(page.locator("#filter-tag")).to_have_value("shop")
    only = (await figures(past.url, "tag=shop"))["total"]["requests"]
    await expect(page.locator("#requests")).to_have_text(str(only))
    await page.select_option("#filter-status", "failed")
    await expect(page.locator("#requests-table tbody tr .text[data-badge=failed]").first).to_be_visible()
    await expect(page.locator("#requests-table tbody .text[data-badge=small]")).to_have_count(0)
    assert page.url.endswith("?tag=shop&status=failed")
    await page.reload()
    await figures_of(page)
    await expect(page.locator("#requests")).to_have_text(str(only))
    await expect(page.locator("#filter-status")).to_have_value("failed")
    await page.go_back()
    await expect(page.locator("#filter-status")).to_have_value("")

    await page.locator("section[aria-labelledby=chart-cost] .plot").scroll_into_view_if_needed()
    box = await page.locator("section[aria-labelledby=chart-cost] .u-over").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 40)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40, steps=3)
    await page.mouse.up()
    await expect(page).to_have_url(re.compile(r"since=\d+&until=\d+&tag=shop"))
    first = page.url
    await page.locator("section[aria-labelledby=chart-cost] .plot").focus()
    await page.keyboard.press("End")
    await page.keyboard.press("+")
    await expect(page).not_to_have_url(first)
    await page.click("#reset")
    await expect(page.locator("#range-24h")).to_be_checked()
    await expect(page).to_have_url(f"{past.url}/dashboard/")
    assert complaints == []


async def test_everybody_can_use_it_at_every_width(browser: Browser, past: Running) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed; install it with: npm ci --prefix tests/js")
    page, complaints = await opened(browser, past.url)
    await page.locator("section[aria-labelledby=chart-ttft] .quiet").click()
    await expect(page.locator("section[aria-labelledby=chart-ttft] .data tbody tr").first).to_be_visible()
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 1000})
            assert await overflow(page) <= 0, width
            assert await violations(page) == [], (scheme, width)
            await screenshot(page, f"dashboard-{scheme}-{width}")
    paper = "getComputedStyle(document.body).backgroundColor"
    before = await page.evaluate(paper)
    await page.select_option("#theme", "light")
    assert await page.evaluate(paper) != before
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert complaints == []


async def test_a_long_tag_takes_no_place_from_the_numbers(browser: Browser, start: Start, tmp_path: Path) -> None:
    past = over_days(time.time(), 1.0, 30, tenant="anonymous")
    fill(str(tmp_path), (replace(row, tag="x" * 64) for row in past))

    async with start(lambda configuration: configuration["server"].update(data_dir=str(tmp_path))) as running:
        page, complaints = await opened(browser, running.url)
        name = page.locator("#card-tags").get_by_role("button", name="x" * 64)
        await expect(name).to_be_visible()
        hidden = await page.locator("#card-tags .scroll").evaluate("(box) => box.scrollWidth - box.clientWidth")
        within = await name.evaluate("(button) => button.offsetWidth <= button.parentElement.clientWidth")
        first = await page.locator("#requests-table tbody th").first.bounding_box()
    assert hidden <= 0
    assert within
    assert first is not None
    assert first["width"] < 200
    assert complaints == []


async def test_it_asks_for_an_admins_key(browser: Browser, start: Start, tmp_path: Path) -> None:
    """It says what is wrong with a key, and why a page whose origin is not listed is not live."""
    made = {role: keys.make(tenant="acme", role=role, created_at=1.0) for role in (Role.USE, Role.ADMIN)}
    async with key_store(str(tmp_path)) as store:
        for key, _ in made.values():
            await store.add(key)
    async with proxy_to(None) as proxy:

        def change(configuration: dict[str, Any]) -> None:
            configuration["server"] |= {"data_dir": str(tmp_path), "origins": [proxy.url]}

        async with start(change) as running:
            proxy.target = running.url
            page = await browser.new_page()
            await page.goto(f"{proxy.url}/dashboard/")
            await expect(page.locator("#link")).to_have_text("A key is needed")
            await expect(page.locator("#main")).to_be_hidden()
            for text, said in (("mr_wrong", "does not take this key"), (made[Role.USE][1], "--role admin")):
                await page.fill("#key", text)
                await page.press("#key", "Enter")
                await expect(page.locator("#why-key")).to_contain_text(said)
            await page.fill("#key", made[Role.ADMIN][1])
            await page.press("#key", "Enter")
            await expect(page.locator("#empty")).to_be_visible()
            await expect(page.locator("#link")).to_have_text("Live")
            if AXE.exists():
                assert await violations(page) == []
            await page.goto(f"{running.url}/dashboard/")
            await page.fill("#key", made[Role.ADMIN][1])
            await page.press("#key", "Enter")
            await expect(page.locator("#problem-text")).to_contain_text("[server] origins")
            await expect(page.locator("#empty")).to_be_visible()


async def test_what_is_wrong_is_said_and_passes(browser: Browser, past: Running) -> None:
    page = await browser.new_page()
    sockets: list[WebSocketRoute] = []

    async def through(route: WebSocketRoute) -> None:
        route.connect_to_server()
        sockets.append(route)

    async def broken(route: Route) -> None:
        await route.fulfill(
            status=503, json={"error": {"code": "overloaded", "message": "the disk is too slow; try again"}}
        )

    await page.route_web_socket("**/v1/dashboard/live*", through)
    await page.route(FIGURES, broken)
    await page.goto(f"{past.url}/dashboard/")
    await expect(page.locator("#problem-text")).to_have_text("the disk is too slow; try again")
    await page.unroute(FIGURES)
    await page.click("#again")
    await expect(page.locator("#link")).to_have_text("Live")
    await expect(page.locator("#problem")).to_be_hidden()
    await expect(page.locator("#requests")).not_to_have_text("–")

    await sockets[0].close(code=1012)
    await expect(page.locator("#link")).to_have_text(re.compile(r"^Connection lost, retrying in \d+ s; figures of "))
    await expect(page.locator("#link")).to_have_text("Live")
    assert len(sockets) == 2
    await page.click("#pause")
    await expect(page.locator("#link")).to_have_text(re.compile("^Paused"))
    await page.click("#pause")
    await expect(page.locator("#link")).to_have_text("Live")


async def test_a_feed_that_falls_silent_is_opened_again(browser: Browser, past: Running) -> None:
    """As after a computer slept: nothing has closed the connection, and nothing comes on it any more."""
    page = await browser.new_page()
    await page.clock.install()
    sockets: list[WebSocketRoute] = []

    async def once(route: WebSocketRoute) -> None:
        sockets.append(route)
        server = route.connect_to_server()
        if len(sockets) == 1:
            server.on_message(lambda message: route.send(message) if "hello" in str(message) else None)

    await page.route_web_socket("**/v1/dashboard/live*", once)
    await page.goto(f"{past.url}/dashboard/")
    await expect(page.locator("#link")).to_have_text("Live")
    await page.clock.run_for(21_000)
    await until(lambda: len(sockets) == 2)
    await expect(page.locator("#link")).to_have_text("Live")


async def test_figures_that_did_not_come_at_first_come_by_themselves(browser: Browser, past: Running) -> None:
    page = await browser.new_page()
    await page.clock.install()
    await page.route(FIGURES, lambda route: route.abort())
    await page.goto(f"{past.url}/dashboard/")
    await expect(page.locator("#link")).to_have_text("Not connected")
    await page.unroute(FIGURES)
    await page.clock.run_for(16_000)
    await expect(page.locator("#link")).to_have_text("Live")
    await expect(page.locator("#problem")).to_be_hidden()
