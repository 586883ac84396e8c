"""The page when a model fails: in the answer's own lines, and in a notice for those who may know; in a real browser."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from millrace.access import keys
from millrace.assembly import key_store
from millrace.principal import Role
from tests.support.browser import CHROMIUM, ask, expect_ended, screenshot
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start

FAILING = "Hello? [fault.small=error] [tokens.large=8]"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


async def test_a_failing_model_is_seen_until_it_answers_again(browser: Browser, millrace: Running) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await expect(page.locator("#models")).to_be_hidden()

    await ask(page, FAILING)
    await expect_ended(page, "completed", "large")
    await expect(page.locator("#why")).to_have_text(
        re.compile(r"^small-model answered HTTP 500: The server had an error. .* · large-model instead")
    )
    await expect(page.locator("#revised")).to_contain_text("small-model failed. large-model answers instead.")
    await expect(page.locator("#stage li[data-step=small]")).to_have_attribute("data-state", "broken")
    await expect(page.locator("#stage li[data-step=small] .note")).to_have_text("failed, $0")
    notice = page.locator("#models li")
    await expect(notice).to_have_text(
        re.compile(r"^small-model fails since \d+.\d\d.*: answered HTTP 500.* \(1 failure in the last 5 minutes\)\.$")
    )
    await screenshot(page, "failing")
    await ask(page, FAILING, cache="off")
    await expect(notice).to_contain_text("2 failures in the last 5 minutes")

    await ask(page, "Hello again.")
    await expect_ended(page, "completed", "small")
    await expect(notice).to_have_text(
        re.compile(r"^small-model failed 2 times within the last minute: answered HTTP 500")
    )
    assert complaints == []
    await page.close()


async def test_when_both_fail_both_are_shown(browser: Browser, millrace: Running) -> None:
    page = await browser.new_page(viewport={"width": 390, "height": 844})
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, "Hello? [fault.small=error] [fault.large=overloaded]")
    await expect_ended(page, "failed", "large")
    error = page.locator("#error")
    await expect(error).to_contain_text("upstream_overloaded")
    await expect(error).to_contain_text("small-model answered HTTP 500")
    await expect(error).to_contain_text("large-model answered HTTP 529")
    await expect(page.locator("#models li")).to_have_count(2)
    for step in ("small", "large"):
        await expect(page.locator(f"#stage li[data-step={step}]")).to_have_attribute("data-state", "broken")
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    await screenshot(page, "both-failed")
    await page.close()


@pytest.mark.parametrize("role", [Role.USE, Role.ADMIN])
async def test_the_notice_is_for_admins_and_others_are_told_in_their_answers(
    browser: Browser, start: Start, tmp_path: Path, role: Role
) -> None:
    """A page that was refused does not ask again."""
    key, text = keys.make(tenant="acme", role=role, created_at=1.0)
    async with key_store(str(tmp_path)) as store:
        await store.add(key)
    page = await browser.new_page()
    looks: list[int] = []
    page.on("response", lambda one: looks.append(one.status) if "readyz" in one.url else None)
    async with (
        proxy_to(None) as proxy,
        start(lambda made: made["server"].update(data_dir=str(tmp_path), origins=[proxy.url])) as running,
    ):
        proxy.target = running.url
        await page.goto(proxy.url)
        await page.fill("#key", text)
        await page.press("#key", "Enter")
        await expect(page.locator("#link")).to_have_text("Connected")
        for _ in range(2):
            await ask(page, FAILING, cache="off")
            await expect_ended(page, "completed", "large")
            await expect(page.locator("#why")).to_have_text(re.compile(r"^small-model answered HTTP 500"))
        if role is Role.ADMIN:
            await expect(page.locator("#models li")).to_contain_text("2 failures")
            assert set(looks) == {200}
        else:
            await expect(page.locator("#models")).to_be_hidden()
            assert looks == [403]
        await page.close()
