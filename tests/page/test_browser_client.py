"""millrace.js in a real browser against a whole server, with a network that breaks."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.support.browser import CHROMIUM, launched_browser
from tests.support.processes import server_process
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

ASK = """async ([question, options]) => {
    const { connect } = await import("/millrace.js");
    window.states = [];
    const client = window.client = await connect({ onState: (state) => window.states.push(state) });
    window.numbers = [];
    window.answer = client.stream(question, options);
    window.read = (async () => {
        for await (const { sequence_number } of window.answer) window.numbers.push(sequence_number);
    })();
    window.read.catch(() => {});
}"""
SOME_WORDS = "(length) => window.answer.text.length > length"
END = """async () => {
    const failed = await window.read.then(() => null, ({ code }) => code);
    const { text, response, reasoning } = window.answer;
    const whole = response?.output?.flatMap(({ content }) => content ?? []).map(({ text }) => text).join("");
    return { failed, text, whole, reasoning, status: response?.status, numbers: window.numbers, states: window.states };
}"""
LONG = "Tell me a long story. [tokens=60] [rate=40]"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with launched_browser() as browser:
        yield await browser.new_page()


async def test_an_answer_goes_on_over_broken_connections(page: Page, millrace: Running) -> None:
    """Cut twice: every event once, in order; the model is asked once."""
    async with proxy_to(millrace.url) as proxy:
        await page.goto(proxy.url)
        await page.evaluate(ASK, [LONG, {"onDisconnect": "detach"}])
        for length in (20, 100):
            await page.wait_for_function(SOME_WORDS, arg=length)
            proxy.cut()
        end = await page.evaluate(END)
    assert (end["failed"], end["status"]) == (None, "completed")
    assert end["text"] == end["whole"] != ""
    assert end["numbers"] == [*range(len(end["numbers"]))]
    assert end["states"] == ["connected", "broken"] * 2 + ["connected"]
    assert millrace.calls == 1


@pytest.mark.parametrize("key", ["story-7", None])
async def test_another_process_is_asked_again_with_a_key_only(page: Page, start: Start, key: str | None) -> None:
    """Without one it might be billed twice, so it is an error."""
    async with start() as one, start() as other, proxy_to(one.url) as proxy:
        await page.goto(proxy.url)
        options = {"onDisconnect": "detach"} | ({"idempotencyKey": key} if key else {})
        await page.evaluate(ASK, [LONG, options])
        await page.wait_for_function(SOME_WORDS, arg=20)
        proxy.target = other.url
        proxy.cut()
        end = await page.evaluate(END)
    assert other.calls == (1 if key else 0)
    if key:
        assert (end["failed"], end["status"], end["text"]) == (None, "completed", end["whole"])
    else:
        assert end["failed"] == "resume_expired"


async def test_a_server_restarts_in_mid_stream_and_while_nothing_runs(page: Page, start: Start, tmp_path: Path) -> None:
    """Killed in the middle of an answer, then stopped while idle: the page goes on with each next process by itself."""
    async with proxy_to(None) as proxy, server_process(tmp_path, 5) as first, start() as third:
        async with start() as second:
            proxy.target = first.url
            await page.goto(proxy.url)
            await page.evaluate(ASK, [LONG, {"onDisconnect": "detach", "idempotencyKey": "story"}])
            await page.wait_for_function(SOME_WORDS, arg=20)
            first.stop(signal.SIGKILL)
            proxy.target = second.url
            end = await page.evaluate(END)
            assert (end["failed"], end["status"], second.calls) == (None, "completed", 1)
            assert end["text"] == end["whole"] != ""
            proxy.target = third.url
        reply = await page.evaluate("async () => (await window.client.ask('What is 2 + 2?')).text")
        assert (reply, third.calls) == ("2 + 2 = 4.", 1)
        states = await page.evaluate("window.states")
        assert states == ["connected", "broken", "connected", "draining", "connected"]
