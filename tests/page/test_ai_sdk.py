"""`useChat` and `WebSocketChatTransport` of the AI SDK, unmodified, in a real browser against a whole server."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, expect

from millrace.simulator import EASY
from tests.support.browser import CHROMIUM, longer_than
from tests.support.captured.capture import demo
from tests.support.keyed_server import keyed_server
from tests.support.paths import REPOSITORY
from tests.support.proxy import proxy_to
from tests.support.server import Running, Start
from tests.support.waiting import until

JS = REPOSITORY / "tests" / "js"
ESBUILD = JS / "node_modules" / ".bin" / "esbuild"
SDK = JS / "node_modules" / "ai"

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(
        not (ESBUILD.exists() and SDK.exists()), reason="the AI SDK is not installed: npm ci --prefix tests/js"
    ),
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
]

LONG = "Tell me a long story. [tokens=900] [rate=60]"
HARD = "Why is the sky dark at night?"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SEND = "([id, text, options]) => void window.chats[id].sendMessage({ text }, options)"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The app and the packages that it imports, as one module."""
    out = tmp_path_factory.mktemp("chat") / "app.js"
    command: list[str | Path] = [
        ESBUILD,
        "chat/app.js",
        "--bundle",
        "--format=esm",
        "--log-level=error",
        f"--outfile={out}",
    ]
    subprocess.run(command, cwd=JS, check=True, timeout=60)
    return out.read_text("utf-8")


async def opened(browser: Browser | BrowserContext, app: str, url: str) -> Page:
    """Open the app in a document of the server, as pages of other networks may not connect to this one."""
    page = await browser.new_page()

    async def serve(route: Route) -> None:
        await route.fulfill(body=app, content_type="text/javascript")

    await page.route("**/app.js", serve)
    await page.goto(f"{url}/healthz")
    await started(page)
    return page


async def started(page: Page) -> None:
    await page.add_script_tag(url="/app.js", type="module")
    await expect(status(page, "two")).to_have_text("ready")


def status(page: Page, chat: str) -> Locator:
    return page.locator(f"#{chat} .status")


def answers(page: Page, chat: str) -> Locator:
    return page.locator(f"#{chat} .assistant")


async def send(page: Page, chat: str, text: str, **body: Any) -> None:
    await page.evaluate(SEND, [chat, text, {"body": body}])


async def told(page: Page, chat: str) -> dict[str, list[Any]]:
    """Return the transient parts that a chat was told, by type; no message holds one."""
    found: dict[str, list[Any]] = {}
    for part in await page.evaluate("(chat) => window.told[chat]", chat):
        found.setdefault(part["type"], []).append(part["data"])
    kept = await page.evaluate("(chat) => window.chats[chat].messages.flatMap(({ parts }) => parts)", chat)
    assert not [part for part in kept if part["type"].startswith("data-")]
    return found


async def test_two_chats_on_one_socket_a_revise_and_a_stop_against_the_demo(browser: Browser, app: str) -> None:
    async with demo() as (ws_url, _):
        page = await opened(browser, app, ws_url.replace("ws", "http", 1))
        await send(page, "one", LONG)
        await expect(answers(page, "one")).to_have_text(longer_than(10))

        await send(page, "two", HARD)
        await expect(answers(page, "two")).to_contain_text("Olbers")
        await expect(status(page, "two")).to_have_text("ready")
        seen = await page.evaluate("window.seen.two")
        assert [text for text in seen if text.startswith("I don't know")], "the first words were shown"
        assert not (await answers(page, "two").inner_text()).startswith("I don't know"), "and taken back"
        of_two = await told(page, "two")
        assert of_two["data-millrace-revise"][0]["reason"] == "unsure"
        assert of_two["data-millrace-route"][0]["tier"] == "small"
        assert of_two["data-millrace-usage"][-1]["cost_usd"] > 0
        assert of_two["data-millrace-end"][-1]["status"] == "completed"

        await expect(status(page, "one")).to_have_text("streaming")
        await page.evaluate("window.chats.one.stop()")
        await expect(status(page, "one")).to_have_text("ready")
        shown = await answers(page, "one").inner_text()
        await send(page, "one", "What is 2 + 2?")
        await expect(answers(page, "one")).to_have_count(2)
        await expect(status(page, "one")).to_have_text("ready")
        await expect(answers(page, "one").nth(1)).to_have_text("2 + 2 = 4.")
        assert await answers(page, "one").first.inner_text() == shown, "nothing came after the stop"
        await expect(page.locator("#one .error")).to_be_empty()
        assert await page.evaluate("window.sockets") == 1


async def test_an_answer_goes_on_after_a_lost_connection_and_after_a_reload(
    browser: Browser, app: str, start: Start, tmp_path: Path
) -> None:
    """With a ticket for each connection, as docs/ai-sdk.md tells: the SDK reads its subprotocols when it connects."""
    async with proxy_to(None) as proxy, keyed_server(start, tmp_path, proxy.url) as guarded:
        proxy.target = guarded.running.url
        tickets: list[str] = []

        async def fresh_ticket() -> str:
            tickets.append(await guarded.ticket(proxy.url))
            return tickets[-1]

        context = await browser.new_context()
        await context.expose_function("freshTicket", fresh_ticket)
        page = await opened(context, app, proxy.url)
        await send(page, "one", "Tell me a story. [tokens=120] [rate=60]")
        await expect(answers(page, "one")).to_have_text(longer_than(20))
        message = await answers(page, "one").get_attribute("data-id")
        proxy.cut()
        await expect(status(page, "one")).to_have_text("error")
        await page.evaluate("void window.chats.one.resumeStream()")
        await expect(status(page, "one")).to_have_text("streaming")
        await page.reload()
        await started(page)
        await page.wait_for_function("window.told.one.some(({ type }) => type === 'data-millrace-end')")
        await expect(status(page, "one")).to_have_text("ready")
        await expect(answers(page, "one")).to_have_count(1)
        assert await answers(page, "one").get_attribute("data-id") == message
        (end,) = (await told(page, "one"))["data-millrace-end"]
        assert (end["status"], end["usage"]["output_tokens"]) == ("completed", 120)
        assert guarded.running.calls == 1
        assert len(set(tickets)) == len(tickets) == 3


async def test_errors_are_those_of_their_chat_and_a_stop_reaches_the_model(
    browser: Browser, app: str, millrace: Running
) -> None:
    """Errors before the first word and in the middle; the other chat and the connection go on."""
    page = await opened(browser, app, millrace.url)
    await send(page, "two", LONG)
    await expect(status(page, "two")).to_have_text("streaming")
    await send(page, "one", "Hello", millrace={"strategy": "fastest"})
    await expect(status(page, "one")).to_have_text("error")
    await expect(page.locator("#one .error")).to_contain_text("millrace.strategy")
    assert (await told(page, "one"))["data-millrace-error"][0]["code"] == "invalid_request"

    await send(page, "one", "Hello [fault=hangup@5]", millrace={"strategy": "small"})
    await expect(page.locator("#one .error")).to_contain_text("broke in mid-answer")
    await expect(answers(page, "one").last).to_contain_text("Hello!")
    await send(page, "one", EASY[0])
    await expect(status(page, "one")).to_have_text("ready")
    await expect(page.locator("#one .error")).to_be_empty()

    await expect(status(page, "two")).to_have_text("streaming")
    await page.evaluate("window.chats.two.stop()")
    await until(lambda: millrace.small.stats.running == 0)
    assert millrace.small.stats.aborted == 1
    await expect(status(page, "two")).to_have_text("ready")
    await expect(page.locator("#two .error")).to_be_empty()
    assert await page.evaluate("window.sockets") == 1


async def test_a_tool_of_the_page_is_called_and_another_answer_is_asked_of_a_model(
    browser: Browser, app: str, millrace: Running
) -> None:
    page = await opened(browser, app, millrace.url)
    await send(page, "one", "What is the weather in Paris? [tool=get_weather]", tools=[WEATHER])
    await expect(answers(page, "one")).to_have_text(longer_than(5))
    await expect(status(page, "one")).to_have_text("ready")
    for _ in range(2):
        await expect(answers(page, "one")).to_have_count(1)
        parts = await page.evaluate("window.chats.one.messages.at(-1).parts.map(({ type, state }) => [type, state])")
        assert [kind for kind, _ in parts] == ["step-start", "tool-get_weather", "step-start", "text"]
        assert parts[1][1] == "output-available"
        assert await page.evaluate("window.ran") == 1
        await page.evaluate("window.chats.one.resumeStream()")  # once more, from its beginning
        await expect(status(page, "one")).to_have_text("ready")
    roles = [message["role"] for message in millrace.small.calls[-1].body["messages"]]
    assert roles == ["user", "assistant", "tool"]

    await send(page, "two", EASY[0])
    await expect(answers(page, "two")).to_have_text(longer_than(1))
    await expect(status(page, "two")).to_have_text("ready")
    first, calls = await answers(page, "two").get_attribute("data-id"), millrace.calls
    await page.evaluate("window.chats.two.regenerate()")
    await expect(answers(page, "two")).not_to_have_attribute("data-id", str(first))
    await expect(status(page, "two")).to_have_text("ready")
    await expect(answers(page, "two")).to_have_count(1)
    assert millrace.calls == calls + 1
