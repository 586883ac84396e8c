"""The page, in a real browser, against a whole server with two simulated models."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from millrace.simulator import EASY, HARD
from tests.support.browser import CHROMIUM, PATIENCE_MS, ask, expect_ended, longer_than, screenshot
from tests.support.server import Running
from tests.support.waiting import until

LONG = "Tell me a long story. [tokens=400] [rate=100]"
UNSURE = "Why is the sky dark at night?"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture
async def page(browser: Browser, millrace: Running) -> AsyncIterator[Page]:
    """The page, connected; afterwards it must have complained of nothing and asked nobody else."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    others: list[str] = []
    here = urlsplit(millrace.url).netloc

    def look(url: str) -> None:
        if urlsplit(url).netloc != here:
            others.append(url)

    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: look(request.url))
    page.on("websocket", lambda socket: look(socket.url))
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    yield page
    assert complaints == []
    assert others == []


async def note(page: Page, stage: str, words: str | re.Pattern[str]) -> None:
    await expect(page.locator(f"#stage li[data-step={stage}] .note")).to_have_text(words)


async def turning(page: Page) -> int:
    """Count the wheels that turn."""
    count: int = await page.evaluate("document.getAnimations().filter((one) => one.animationName === 'turn').length")
    return count


async def test_an_answer_streams_and_the_cache_gives_it_again(page: Page) -> None:
    question, answer = "What is a millrace? [rate=40]", page.locator("#answer")
    await ask(page, question)
    await expect(answer).to_have_text(longer_than(10))
    before = await answer.text_content() or ""
    await expect(answer).to_have_text(longer_than(len(before) + 10))
    assert before in (await answer.text_content() or "")
    await expect(answer).to_have_attribute("aria-busy", "true")
    await screenshot(page, "streaming")
    await expect_ended(page, "completed", "small")
    whole = await answer.text_content() or ""
    assert whole.endswith("the part after it is the tailrace.")
    await expect(page.locator("#cost")).to_have_text(re.compile(r"^\$0\.0000\d+$"))
    await expect(page.locator("#first")).to_have_text(re.compile(r"^\d+ ms$"))

    await page.click("#ask")
    await expect_ended(page, "completed", "cache")
    await expect(answer).to_have_text(whole)
    await expect(page.locator("#cost")).to_have_text("$0")
    await expect(page.locator("#saved")).to_have_text(re.compile(r"^\$0\.000\d+$"))

    await expect(page.locator("#history tr")).to_have_count(2)
    await expect(page.locator("#history tr").first.locator(".badge")).to_have_text("cache")
    await expect(page.locator("#totals [data-total=requests]")).to_have_text("2")
    await expect(page.locator("#totals [data-total=cache]")).to_have_text("1 (50%)")
    await expect(page.locator("#totals [data-total=exact]")).to_have_text("1 (50%)")
    await expect(page.locator("#totals [data-total=split]")).to_have_text("1 / 0")
    await expect(page.locator("#why")).to_have_text(re.compile(r"^small-model · answered before · stored \d+ s ago$"))
    await expect(page.locator("#stage")).to_have_attribute("data-cache", "exact")


async def test_weak_words_are_taken_back_before_the_eyes(page: Page) -> None:
    assert UNSURE in HARD
    await ask(page, f"{UNSURE} [ttft.large=2] [rate.large=200]")
    await expect(page.locator("#revised del")).to_have_text(re.compile(r"^I don't know\b"))
    await expect(page.locator("#revised")).to_contain_text("small-model was unsure. large-model answers instead.")
    await expect(page.locator("#answer")).to_have_text("")
    await screenshot(page, "revise")
    await expect_ended(page, "completed", "large")
    await expect(page.locator("#answer")).to_contain_text("Olbers' paradox")
    await expect(page.locator("#revised")).to_be_visible()
    await expect(page.locator("#stage li[data-step=check]")).to_contain_text("was unsure")
    await screenshot(page, "revised")

    await ask(page, "What is 2 + 2?")
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#revised")).to_be_hidden()


async def test_a_race_runs_in_two_lanes_and_the_loser_is_closed(page: Page, millrace: Running) -> None:
    stage, large = page.locator("#stage"), page.locator("#stage li[data-step=large]")
    await ask(page, "Who is first? [ttft.small=1.5] [ttft.large=4] [tokens=120] [rate=60]", strategy="race")
    await expect(stage).to_have_attribute("data-mode", "race")
    await expect(page.locator("#stage svg.race")).to_be_visible()
    await expect(page.locator("#stage svg.cascade")).to_be_hidden()
    await note(page, "small", "racing")
    await note(page, "large", "racing")
    assert await turning(page) == 2
    await expect(large.locator(".model")).to_have_text("large-model")
    await screenshot(page, "racing")
    await note(page, "small", "answering")
    await expect(large).to_have_attribute("data-state", "closed")
    assert await turning(page) == 1
    await until(lambda: millrace.large.stats.aborted == 1)
    await expect_ended(page, "completed", "small")
    await note(page, "small", "answered")
    await note(page, "large", re.compile(r"^closed, ≈\$0\.0000\d+$"))
    await expect(page.locator("#stage li[data-step=small] .model")).to_have_text("small-model")
    await expect(page.locator("#why")).to_have_text(re.compile("^small-model · won the race: the first word"))
    await expect(page.locator("#calls li[data-outcome=lost]")).to_contain_text("large-model")
    await expect(page.locator("#totals [data-total=waste]")).to_have_text(re.compile(r"^\$0\.0000\d+$"))
    await screenshot(page, "raced")

    await ask(page, EASY[0], strategy="auto")
    await expect(stage).to_have_attribute("data-mode", "cascade")
    await expect_ended(page, "completed", "small")


async def test_a_quick_small_model_wins_and_the_slow_large_one_loses(page: Page) -> None:
    await ask(page, "Who is first? [ttft.small=0.1] [ttft.large=2]", strategy="race")
    await expect_ended(page, "completed", "small")
    await note(page, "large", re.compile(r"^closed, ≈\$0\.0000\d+$"))


async def test_nothing_turns_where_motion_is_not_wanted(page: Page) -> None:
    await page.emulate_media(reduced_motion="reduce")
    await ask(page, "Who is first? [ttft.small=0.5] [ttft.large=2]", strategy="race")
    await note(page, "large", "racing")
    assert await turning(page) == 0
    await expect_ended(page, "completed", "small")


async def test_a_hedge_has_a_second_lane_only_once_it_is_started(page: Page, millrace: Running) -> None:
    await ask(page, "Quick? [ttft.small=0.05]", strategy="hedge")
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#stage")).to_have_attribute("data-mode", "cascade")
    await expect(page.locator("#stage svg.race")).to_be_hidden()
    await note(page, "large", "not needed")
    assert millrace.large.stats.started == 0

    await ask(page, "Slow? [ttft.small=3] [ttft.large=0.6]")
    await expect(page.locator("#stage")).to_have_attribute("data-mode", "race")
    await expect_ended(page, "completed", "large")
    await note(page, "large", "answered")
    await note(page, "small", re.compile(r"^closed, ≈\$0\.00000\d+$"))


async def test_of_two_who_ask_the_same_at_once_one_rides_along(browser: Browser, page: Page, millrace: Running) -> None:
    question = "Why do rivers bend? [ttft=0.8] [tokens=40] [rate=100]"
    other = await browser.new_page()
    await other.goto(millrace.url)
    await expect(other.locator("#link")).to_have_text("Connected")
    await ask(other, question)
    await until(lambda: millrace.small.stats.started == 1)
    await ask(page, question)
    await note(page, "join", "joined")
    await expect(page.locator("#stage")).to_have_attribute("data-cache", "joined")
    await expect(page.locator("#status")).to_have_text(re.compile("the small model answers both"))
    await screenshot(page, "joining")
    await expect_ended(page, "completed", "small")
    await expect_ended(other, "completed", "small")
    await expect(other.locator("#stage")).to_have_attribute("data-cache", "miss")
    assert millrace.calls == 1
    assert await page.locator("#answer").text_content() == await other.locator("#answer").text_content()
    await note(page, "join", "joined")
    await note(page, "small", "answered both")
    await expect(page.locator("#cost")).to_have_text("$0")
    await expect(page.locator("#totals [data-total=joined]")).to_have_text("1 (100%)")
    await expect(page.locator("#totals [data-total=split]")).to_have_text("0 / 0")
    await expect(page.locator("#history .badge")).to_have_text("joined")
    await screenshot(page, "joined")


async def test_a_near_question_is_answered_by_the_semantic_cache_and_a_cut_is_marked(
    browser: Browser, millrace: Running
) -> None:
    """What the server says is scripted: how near it was, and how much of the prompt was cut."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    await answer_with(page, semantic_hit())
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, "Why's the sky blue?")
    await expect_ended(page, "completed", "cache")
    await expect(page.locator("#stage")).to_have_attribute("data-cache", "semantic")
    await note(page, "semantic", "0.97 similar")
    await expect(page.locator("#stage li[data-state=answered]")).to_have_count(1)
    await expect(page.locator("#why")).to_have_text(
        "small-model · asked before in other words · 0.97 similar · stored 5 min ago · 1,234 tokens trimmed"
    )
    await expect(page.locator("#stage svg [data-step=trim] text")).to_have_text("−1,234 tokens")
    await expect(page.locator("#stage svg [data-step=trim]")).to_be_visible()
    await expect(page.locator("#status")).to_contain_text("the semantic cache answered")
    await expect(page.locator("#history .badge")).to_have_text("cache, similar")
    await expect(page.locator("#totals [data-total=semantic]")).to_have_text("1 (100%)")
    await screenshot(page, "semantic")


async def answer_with(page: Page, events: list[dict[str, Any]]) -> None:
    """Answer every request of the page with these events, in place of the server."""

    def answer(route: WebSocketRoute, frame: str | bytes) -> None:
        for number, event in enumerate(events):
            lane = {"stream_id": json.loads(frame)["stream_id"], "sequence_number": number}
            route.send(json.dumps(event | lane))

    async def script(route: WebSocketRoute) -> None:
        route.on_message(lambda frame: answer(route, frame))

    await page.route_web_socket("**/v1/responses", script)


def semantic_hit() -> list[dict[str, Any]]:
    began: dict[str, Any] = {
        "id": "resp_1",
        "status": "in_progress",
        "model": "auto",
        "metadata": {},
        "usage": None,
        "error": None,
    }
    usage = {"input_tokens": 9, "output_tokens": 3, "cost_usd": 0, "saved_usd": 0.0001, "attempts": []}
    marks = {"route": "cache", "cache": "semantic", "check": "passed", "trimmed_tokens": "1234"}
    metadata = {f"millrace.{name}": mark for name, mark in marks.items()}
    found = {"cache": "semantic", "similarity": 0.9751, "entry_id": "sem_1", "age_s": 300.0, "score": None}
    route = {"strategy": "auto", "model": "small-model", "tier": None, "reason": "asked before in other words"}
    return [
        {"type": "response.created", "response": began},
        {"type": "millrace.route", "response_id": "resp_1", **route, **found},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "It scatters light."},
        {
            "type": "response.completed",
            "response": began | {"status": "completed", "model": "small-model", "metadata": metadata, "usage": usage},
        },
    ]


async def test_stop_stops_the_model_and_says_what_it_cost(page: Page, millrace: Running) -> None:
    await ask(page, LONG)
    await expect(page.locator("#answer")).to_have_text(longer_than(100))
    await page.click("#stop")
    await expect_ended(page, "cancelled", "small")
    await until(lambda: millrace.small.stats.aborted == 1)
    assert millrace.small.stats.finished == 0
    await expect(page.locator("#cost")).to_have_text(re.compile(r"^about \$0\.0000\d+$"))
    await expect(page.locator("#status")).to_have_text(re.compile(r"^Cancelled after .*; it cost \$0\.0000\d+\.$"))
    await expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    await screenshot(page, "stopped")


async def test_escape_stops_and_focus_is_never_lost(page: Page, millrace: Running) -> None:
    await page.fill("#question", LONG)
    await page.focus("#ask")
    await page.keyboard.press("Enter")
    await expect(page.locator("#stop")).to_be_focused()
    await expect(page.locator("#answer")).to_have_text(longer_than(10))
    await page.keyboard.press("Escape")
    await expect_ended(page, "cancelled", "small")
    await expect(page.locator("#ask")).to_be_focused()
    await until(lambda: millrace.small.stats.running == 0)


async def test_the_pickers_reach_the_server(page: Page, millrace: Running) -> None:
    await ask(page, EASY[0], strategy="large", delivery="final", cache="off")
    await expect_ended(page, "completed", "large")
    assert (millrace.small.stats.started, millrace.large.stats.started) == (0, 1)
    await expect(page.locator("#stage li[data-step=small]")).to_contain_text("not asked")
    await ask(page, EASY[0], strategy="small")
    await expect_ended(page, "completed", "small")
    assert millrace.small.stats.started == 1
    await ask(page, "Never asked before.", cache="only")
    await expect_ended(page, "failed", "")
    await expect(page.locator("#error")).to_contain_text("response_not_found")


async def test_a_failure_shows_its_code_and_what_was_said_until_then(page: Page) -> None:
    await ask(page, "Tell me. [tokens=40] [fault=hangup@5]", strategy="small")
    await expect_ended(page, "failed", "small")
    await expect(page.locator("#error")).to_contain_text("upstream_truncated")
    await expect(page.locator("#error")).to_contain_text("small-model")
    await expect(page.locator("#answer")).to_have_text(longer_than(5))
    await screenshot(page, "failed")
    await ask(page, EASY[0])
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#error")).to_be_hidden()


async def test_markup_in_a_question_stays_text(page: Page) -> None:
    question = "<img src=x onerror=alert(1)> <b>bold</b>"
    await ask(page, question)
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#asked")).to_have_text(question)
    assert await page.locator("main img, main td b").count() == 0


async def test_enter_with_shift_starts_a_new_line_and_a_chip_asks(page: Page) -> None:
    await page.fill("#question", "one")
    await page.press("#question", "Shift+Enter")
    await page.keyboard.type("two")
    await expect(page.locator("#question")).to_have_value("one\ntwo")
    await expect(page.locator("#status")).to_have_attribute("data-status", "idle")
    await page.click(".chip >> nth=0")
    await expect_ended(page, "completed", "small")
    await page.click("#history .again")
    await expect_ended(page, "completed", "cache")


async def test_reasoning_a_refusal_and_a_call_are_shown(page: Page) -> None:
    await ask(page, "Think first. [reason=12] [tokens=8]")
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#reasoning")).to_be_visible()
    await expect(page.locator("#reasoning p")).to_be_hidden()
    await page.click("#reasoning summary")
    await expect(page.locator("#reasoning p")).to_have_text(longer_than(10))
    await ask(page, "Say something rude. [refuse]", strategy="large")
    await expect_ended(page, "completed", "large")
    await expect(page.locator("#reasoning")).to_be_hidden()
    await expect(page.locator("#refusal")).to_have_text(longer_than(5))
    await expect(page.locator("#answer")).to_have_text("")
    await ask(page, EASY[0], strategy="auto")
    await expect_ended(page, "completed", "small")
    await expect(page.locator("#refusal")).to_be_hidden()


async def test_a_tool_call_is_shown(browser: Browser, millrace: Running) -> None:
    """The page offers no tools itself, so what the server says is scripted."""
    page = await browser.new_page()
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_weather", "status": "completed"}
    began, *_, end = semantic_hit()
    done = {"type": "response.output_item.done", "item": call | {"arguments": '{"city":"<b>Paris</b>"}'}}
    await answer_with(page, [began, done, end])
    await page.goto(millrace.url)
    await expect(page.locator("#link")).to_have_text("Connected")
    await ask(page, "Weather?")
    await expect_ended(page, "completed", "cache")
    await expect(page.locator("#tools li strong")).to_have_text("get_weather")
    await expect(page.locator("#tools li code")).to_have_text('{"city":"<b>Paris</b>"}')
    await screenshot(page, "called")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
async def test_nothing_sticks_out(page: Page, width: int, scheme: str) -> None:
    await page.set_viewport_size({"width": width, "height": 844})
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    await ask(page, f"A word that is long: {'Donaudampfschifffahrt' * 6} [tokens=60]")
    await expect_ended(page, "completed", "small")
    await ask(page, UNSURE)
    await expect_ended(page, "completed", "large")
    await ask(page, "Who is first? [ttft.small=0.05] [ttft.large=2]", strategy="race")
    await expect_ended(page, "completed", "small")
    assert await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    await screenshot(page, f"{scheme}-{width}")
