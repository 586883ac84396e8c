"""The playground's parts in a real browser: formatted answers, a conversation, two answers side by side, code."""

import asyncio
import re
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.page.test_page import UNSURE, answer_with, semantic_hit
from tests.support.browser import CHROMIUM, PATIENCE_MS, ask, expect_ended, longer_than, screenshot
from tests.support.dashboard import AXE, overflow, violations
from tests.support.paths import REPOSITORY
from tests.support.server import Running
from tests.support.waiting import PATIENCE_S

WIDTHS = (390, 1024, 1920)
CODE = "Write a short program."
EVIL = """# Title

<img src=x onerror="alert(1)"> <script>alert(2)</script>

[one](javascript:alert(3)) [two](https://example.org/) ![three](https://example.org/pixel.png)

| a | b |
|---|--:|
| 1 | **2** |

3. third

```html
<b onclick="alert(4)">bold</b>
```"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
async def page(browser: Browser, millrace: Running) -> AsyncIterator[Page]:
    """The page, connected; afterwards it must have complained of nothing."""
    page = await opened(browser, millrace.url)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    assert complaints == []


async def opened(browser: Browser, url: str, **options: Any) -> Page:
    page = await browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
    page.set_default_timeout(PATIENCE_MS)
    await page.goto(url)
    await expect(page.locator("#link")).to_have_text("Connected")
    return page


async def ended(page: Page) -> None:
    await expect(page.locator("#status")).to_have_attribute("data-status", "completed")
    await expect(page.locator("#ask")).to_be_enabled()


async def test_an_answer_is_formatted_and_its_code_can_be_copied(page: Page) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await ask(page, CODE)
    await expect_ended(page, "completed", "small")
    answer = page.locator("#answer")
    await expect(answer.locator("pre code")).to_contain_text("def ")
    await expect(answer.locator("ul li strong").first).to_be_visible()
    await expect(answer).not_to_contain_text("```")
    await answer.locator(".code button").click()
    await expect(answer.locator(".code button")).to_have_text("Copied")
    copied: str = await page.evaluate("navigator.clipboard.readText()")
    assert copied == await answer.locator("pre code").text_content()


async def test_nothing_in_an_answer_runs_is_fetched_or_knows_who_opened_it(browser: Browser, millrace: Running) -> None:
    """What the server says is scripted."""
    page = await browser.new_page()
    others: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(millrace.url) else others.append(request.url))
    page.on("dialog", lambda dialog: others.append(dialog.message))
    began, route, _, end = semantic_hit()
    words = [
        {"type": "response.output_text.delta", "item_id": "m", "delta": EVIL[at : at + 7]}
        for at in range(0, len(EVIL), 7)
    ]
    await answer_with(page, [began, route, *words, end])
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, "Be evil.")
    await expect_ended(page, "completed", "cache")
    answer = page.locator("#answer")
    await expect(answer.locator("h3")).to_have_text("Title")
    await expect(answer).to_contain_text('<img src=x onerror="alert(1)"> <script>alert(2)</script>')
    await expect(answer.locator("pre code")).to_have_text('<b onclick="alert(4)">bold</b>')
    await expect(answer.locator("td[data-align=right] strong")).to_have_text("2")
    await expect(answer.locator("ol")).to_have_attribute("start", "3")
    assert await answer.locator("img, script, b, [onclick], [onerror], [style]").count() == 0
    links = await answer.locator("a").evaluate_all("links => links.map(({href, rel, target}) => [href, rel, target])")
    assert links[0] == ["https://example.org/", "noopener noreferrer nofollow", "_blank"]
    assert all(href.startswith("https://") for href, *_ in links)
    assert others == []
    blocked = await page.evaluate(
        "() => { try { document.body.innerHTML = '<p>x'; return false; } catch { return true; } }"
    )
    assert blocked, "the page itself can make no HTML of a text"


async def test_each_stage_has_its_time_and_cost_and_the_first_word_is_the_one_that_stands(page: Page) -> None:
    await ask(page, f"{UNSURE} [ttft.large=1.2] [rate.large=60]")
    await expect(page.locator("#revised del")).to_be_visible()
    await expect(page.locator("#first")).to_have_text("taken back")
    await expect(page.locator("#by")).to_have_text("large-model")
    await expect(page.locator("#tokens")).to_have_text(re.compile(r"^≈ \d+ out$"))
    await expect(page.locator("#cost")).to_have_text(re.compile(r"^≈ \$0\.000\d+ so far$"))
    await expect_ended(page, "completed", "large")
    await expect(page.locator("#first")).to_have_text(re.compile(r"^[1-9]\.\d s$"))
    figures = {
        step: await page.locator(f"#stage li[data-step={step}] .figure").text_content() or ""
        for step in ("exact", "join", "semantic", "small", "check", "large")
    }
    for step in ("exact", "join", "semantic", "check"):
        assert re.fullmatch(r"at \d+ ms · \$0", figures[step]), figures
    assert re.fullmatch(r"\d+ ms · ≈?\$0\.0000\d+", figures["small"]), figures
    assert re.fullmatch(r"[1-9]\.\d s · ≈?\$0\.000\d+", figures["large"]), figures
    href = await page.locator("#story").get_attribute("href")
    assert href is not None
    assert href.startswith("dashboard/?request=resp_")
    await expect(page.locator("#today [data-today=split]")).to_have_text("0 / 0 / 1")

    await ask(page, f"{UNSURE} [ttft.large=1.2] [rate.large=60]")
    await expect_ended(page, "completed", "cache")
    await expect(page.locator("#stage li[data-step=exact] .figure")).to_have_text(re.compile(r"^\d+ ms · \$0$"))
    await expect(page.locator("#stage li[data-step=large] .figure")).to_have_text("")


async def test_a_conversation_goes_on_and_begins_anew(page: Page, millrace: Running) -> None:
    await page.focus("#mode-ask")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#mode-chat")).to_be_checked()
    for number, question in enumerate(("What is a millrace?", "Why is the sky blue?", "And at night?")):
        await ask(page, question)
        await ended(page)
        await expect(page.locator("#thread li")).to_have_count(number)
        await expect(page.locator("#asked")).to_have_text(question)
        await expect(page.locator("#question")).to_have_value("")
    await expect(page.locator("#thread .asked").last).to_have_text("Why is the sky blue?")
    await expect(page.locator("#thread .facts").first).to_have_text(re.compile(r"^small · \d+ ms · \$0\.0000\d+$"))
    asked = millrace.small.stats.started
    await page.click("#tab-curl")
    await expect(page.locator("#code")).to_contain_text('"content": "Why is the sky blue?"')

    await page.click("#anew")
    await expect(page.locator("#thread")).to_be_hidden()
    await expect(page.locator("#code")).not_to_contain_text("sky")
    await ask(page, "What is a millrace?")
    await expect_ended(page, "completed", "cache")
    assert millrace.small.stats.started == asked


async def test_who_comes_back_to_the_page_finds_it_as_it_was_left(page: Page) -> None:
    """A browser restores what was chosen, and then the page must do what it shows."""
    await page.check("#mode-race")
    await page.goto(f"{page.url}dashboard/")
    await page.go_back()
    await expect(page.locator("#link")).to_have_text("Connected")
    chosen = await page.locator("[name=mode]:checked").get_attribute("value")
    await expect(page.locator("body")).to_have_attribute("data-mode", chosen or "")
    assert await page.locator("#race").is_visible() == (chosen == "race")


async def test_two_answers_run_side_by_side(page: Page, millrace: Running) -> None:
    await page.check("#mode-race")
    await expect(page.locator("#talk")).to_be_hidden()
    await expect(page.locator("#cache")).to_have_value("off")
    left, right = page.locator("#left"), page.locator("#right")
    await ask(page, "Who is first? [ttft.small=0.2] [ttft.large=0.8] [tokens=60] [rate=60]")
    await expect(left.locator(".rich")).to_have_text(longer_than(20))
    await expect(left.locator("[data-fact=praise]")).to_contain_text("first word first")
    await expect(right.locator(".rich")).to_have_text(longer_than(20))
    await screenshot(page, "side-by-side")
    await expect(page.locator("#ask")).to_be_enabled()
    await expect(left.locator("[data-fact=model]")).to_have_text("small-model")
    await expect(right.locator("[data-fact=model]")).to_have_text("large-model")
    praise = re.compile(r"^first word first · done first · \d+× cheaper$")
    await expect(left.locator("[data-fact=praise]")).to_have_text(praise)
    await expect(right.locator("[data-fact=praise]")).to_have_text("")
    await expect(page.locator("#history tr")).to_have_count(2)
    track = "track => [...track.children].reduce((sum, {offsetWidth}) => sum + offsetWidth, 0) / track.offsetWidth"
    shares = [await side.locator(".track").evaluate(track) for side in (left, right)]
    assert shares[0] < 0.9 < shares[1] <= 1.01

    await ask(page, "Tell me a long story. [tokens=400] [rate=50]")
    await expect(right.locator(".rich")).to_have_text(longer_than(20))
    await page.keyboard.press("Escape")
    await expect(page.locator("#ask")).to_be_enabled()
    assert [await side.get_attribute("data-status") for side in (left, right)] == ["cancelled", "cancelled"]
    assert (millrace.small.stats.running, millrace.large.stats.running) == (0, 0)
    await page.check("#mode-ask")
    await expect(page.locator("#cache")).to_have_value("on")


async def test_a_model_can_be_chosen(page: Page, millrace: Running) -> None:
    await page.select_option("#model", "large-model")
    await expect(page.locator("#strategy")).to_be_disabled()
    await ask(page, "What is a millrace?")
    await expect_ended(page, "completed", "large")
    assert millrace.small.stats.started == 0


async def test_the_code_does_what_the_page_does(page: Page, browser: Browser, millrace: Running) -> None:
    await page.fill("#question", "It's \"2 + 2\", isn't it?\n`$HOME` \\")
    await page.select_option("#strategy", "large")
    await page.select_option("#cache", "off")
    await page.focus("#tab-python")
    codes = []
    for _ in range(3):
        codes.append(await page.locator("#code").text_content() or "")
        await page.keyboard.press("ArrowRight")
    await expect(page.locator("#tab-python")).to_be_focused()
    python, javascript, curl = codes
    environment = {"PYTHONPATH": f"{REPOSITORY / 'client'}:{REPOSITORY / 'server'}", "PATH": "/usr/bin:/bin"}
    said, curled = await asyncio.gather(
        output([sys.executable, "-c", python], environment),
        output(["sh", "-c", curl], environment) if shutil.which("curl") else asyncio.sleep(0, ""),
    )
    assert "large: $0.000" in said
    assert "response.completed" in curled
    other = await browser.new_page()
    printed: list[str] = []
    other.on("console", lambda message: printed.append(message.text))
    await other.goto(f"{millrace.url}/icon.svg")
    async with other.expect_event("console", lambda message: "large" in message.text):
        await other.evaluate(
            "code => import(URL.createObjectURL(new Blob([code], {type: 'text/javascript'})))", javascript
        )
    assert printed[-1].startswith("large 0.000")
    assert millrace.large.stats.started == 3
    assert millrace.small.stats.started == 0


async def output(command: list[str], environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return said.decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_everybody_can_use_it_at_every_width(browser: Browser, millrace: Running, scheme: Any) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed; install it with: npm ci --prefix tests/js")
    page = await opened(browser, millrace.url, color_scheme=scheme)
    await page.check("#mode-chat")
    for question in (UNSURE, CODE):
        await ask(page, question)
        await ended(page)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        assert await overflow(page) <= 0, width
        assert await violations(page) == [], width
        await screenshot(page, f"playground-{scheme}-{width}")
    await page.check("#mode-race")
    await ask(page, "Who is first? [tokens=30]")
    await expect(page.locator("#ask")).to_be_enabled()
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 1000})
        assert await overflow(page) <= 0, width
        await screenshot(page, f"race-{scheme}-{width}")
    assert await violations(page) == []
